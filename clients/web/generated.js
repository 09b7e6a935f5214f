// Panels made from the table of parameters alone: effects, and what is left of the node's settings.

import { Field, Toggle } from "./buttons.js";
import { element } from "./dom.js";
import { numberSlider } from "./fader.js";
import { pathName } from "./format.js";
import { effectGroups, settingsOf } from "./stems.js";

/** Controls of all effects, put into a section that is hidden where there are none. */
export function buildEffects(desk, section, values, infos) {
  clear(section);
  const groups = effectGroups(infos);
  section.hidden = groups.length === 0;
  return groups.flatMap((group) => {
    const shown = (info) => pathName(info.path.split("/").at(-1));
    const made = group.infos.map((info) => generated(desk, info, values.get(info.path), shown(info)));
    const rows = made.map(({ row }) => row);
    const box = element("div", { class: "effect", role: "group", "aria-label": group.title });
    box.append(element("h3", {}, group.title), ...rows);
    section.append(box);
    return made.map(({ control }) => control);
  });
}

/** Controls of the settings that nothing else draws. */
export function buildSettings(desk, section, values, infos) {
  clear(section);
  const left = settingsOf(infos);
  section.hidden = left.length === 0;
  return left.map((info) => {
    const { control, row } = generated(desk, info, values.get(info.path));
    section.append(row);
    return control;
  });
}

function generated(desk, info, value, text = pathName(info.path)) {
  const label = pathName(info.path);
  if (info.kind === "switch") {
    const control = new Toggle(desk, info.path, value, { text, label });
    return { control, row: described(element("div", { class: "field" }, control.element), info) };
  }
  const isSlider = info.kind === "number" && Number.isFinite(info.lowest) && Number.isFinite(info.highest);
  if (isSlider) {
    const control = numberSlider(desk, info, value, label);
    const name = element("span", { "aria-hidden": "true" }, text);
    const head = element("div", { class: "head" }, name, control.readout);
    return { control, row: described(element("div", { class: "field" }, head, control.element), info) };
  }
  const control = new Field(desk, info, value, { text, label });
  return { control, row: described(control.element, info) };
}

function described(row, info) {
  row.title = info.doc;
  return row;
}

function clear(section) {
  section.replaceChildren(section.querySelector("h2"));
}
