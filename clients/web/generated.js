// Controls made from the table of parameters alone: those of effects, and what is left of the node's settings.

import { Choice, Field, Toggle } from "./buttons.js";
import { element } from "./dom.js";
import { numberSlider } from "./fader.js";
import { pathName } from "./format.js";
import { settingsOf } from "./stems.js";

/** Controls of the settings that nothing else draws. */
export function buildSettings(desk, section, values, infos) {
  section.replaceChildren(section.querySelector("h2"));
  const left = settingsOf(infos);
  section.hidden = left.length === 0;
  return left.map((info) => {
    const name = pathName(info.path);
    const { control, row } = generated(desk, info, values.get(info.path), { text: name, label: name });
    section.append(row);
    return control;
  });
}

/** Control and row of a parameter. isLive: a choice is sent as soon as it is made. */
export function generated(desk, info, value, { text, label, isLive = false }) {
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
  const control = new (isLive && info.kind === "choice" ? Choice : Field)(desk, info, value, { text, label });
  return { control, row: described(control.element, info) };
}

function described(row, info) {
  row.title = info.doc;
  return row;
}
