// The strips: one for each stem, then master and cue.

import { Toggle } from "./buttons.js";
import { element } from "./dom.js";
import { fader, faderScale, numberSlider, pan } from "./fader.js";
import { Meter } from "./meters.js";
import { stemsOf } from "./stems.js";

const MASTER_COLOUR = "#b4bfca";
const CUE_COLOUR = "#b9a5ff";

/**
 * Strips of all faders the node has. slots: lists of effects by stem.
 *
 * Gives {element rows, controls, meters by bus, follow()}.
 */
export function buildMixer(desk, values, infos, slots) {
  const stems = stemsOf(values.keys());
  const strips = stems.map(({ name, colour }) => stemStrip(desk, values, name, colour, slots.get(name)));
  if (values.has("master/gain_db")) strips.push(masterStrip(desk, values, infos));
  if (values.has("cue/gain_db")) strips.push(cueStrip(desk, values));
  const input = new Meter("input", MASTER_COLOUR, "horizontal");
  const meters = new Map([["input", input], ...strips.map((strip) => [strip.bus, strip.meter])]);
  const controls = strips.flatMap((strip) => strip.controls);
  return {
    elements: strips.map((strip) => strip.element),
    input,
    controls,
    meters,
    follow: (now) => markUnheard(strips, stems, now),
  };
}

function markUnheard(strips, stems, values) {
  const isSoloed = ({ name }) => values.get(`stem/${name}/solo`) === true;
  const anySolo = stems.some(isSoloed);
  stems.forEach((stem, i) => {
    const isMuted = values.get(`stem/${stem.name}/mute`) === true;
    strips[i].element.classList.toggle("unheard", isMuted || (anySolo && !isSoloed(stem)));
  });
}

function stemStrip(desk, values, name, colour, slots) {
  const at = `stem/${name}`;
  const gain = fader(desk, `${at}/gain_db`, values.get(`${at}/gain_db`), `${name} fader`);
  const switched = (what, text) =>
    new Toggle(desk, `${at}/${what}`, values.get(`${at}/${what}`), {
      text,
      label: `${text} ${name}`,
      className: what,
    });
  const [mute, solo] = [switched("mute", "Mute"), switched("solo", "Solo")];
  const place = pan(desk, `${at}/pan`, values.get(`${at}/pan`), `${name} pan`);
  const below = [
    element("div", { class: "switches" }, mute.element, solo.element),
    captioned("Pan", place),
    ...(slots ? [slots.element] : []),
  ];
  return strip({ name, bus: name, colour, gain, controls: [gain, mute, solo, place], below });
}

function masterStrip(desk, values, infos) {
  const gain = fader(desk, "master/gain_db", values.get("master/gain_db"), "master fader");
  const info = infos.get("master/ceiling_db");
  if (!info) return strip({ name: "master", bus: "main", colour: MASTER_COLOUR, gain, controls: [gain], below: [] });
  const ceiling = numberSlider(desk, info, values.get(info.path), "master ceiling");
  const below = [captioned("Ceiling", ceiling)];
  return strip({ name: "master", bus: "main", colour: MASTER_COLOUR, gain, controls: [gain, ceiling], below });
}

function cueStrip(desk, values) {
  const gain = fader(desk, "cue/gain_db", values.get("cue/gain_db"), "cue fader");
  const below = [element("p", { class: "note" }, "The dry input")];
  return strip({ name: "cue", bus: "cue", colour: CUE_COLOUR, gain, controls: [gain], below });
}

function captioned(text, slider) {
  const caption = element("span", { class: "caption", "aria-hidden": "true" }, text);
  return element("div", { class: "captioned" }, element("div", {}, caption, slider.readout), slider.element);
}

function strip({ name, bus, colour, gain, controls, below }) {
  const meter = new Meter(name, colour);
  const made = element(
    "div",
    { class: `strip ${name}`, role: "group", "aria-label": name, "--colour": colour },
    element("h2", {}, name),
    element("div", { class: "value" }, gain.readout, meter.clip),
    element("div", { class: "lane" }, faderScale(), gain.element, meter.element),
    element("div", { class: "below" }, ...below),
  );
  return { element: made, bus, meter, controls };
}
