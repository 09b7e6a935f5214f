// Order and colours of the stems, as in the Native Instruments stem format. No DOM.

const KNOWN = [
  ["drums", "#009E73"],
  ["bass", "#D55E00"],
  ["other", "#CC79A7"],
  ["vocals", "#56B4E9"],
];
const OTHER_COLOUR = "#c8ced6";

/** Stems that have a fader, in order, with their colours; stems we have no colour for come last. */
export function stemsOf(paths) {
  const found = new Set();
  for (const path of paths) {
    const match = /^stem\/([^/]+)\/gain_db$/.exec(path);
    if (match) found.add(match[1]);
  }
  const known = KNOWN.filter(([name]) => found.delete(name)).map(([name, colour]) => ({ name, colour }));
  return [...known, ...[...found].map((name) => ({ name, colour: OTHER_COLOUR }))];
}

const DRAWN = /^(stem\/[^/]+\/(gain_db|mute|solo|pan|chain|fx\/.*)|(master|cue)\/gain_db|master\/ceiling_db|recording\/active)$/;

/** Parameters that can be set and that no other part of the page draws. */
export function settingsOf(infos) {
  return infos.filter((info) => (info.role ?? "operator") !== "" && !DRAWN.test(info.path));
}

/** Whether a role may do what another one may. */
export function mayAct(role, needed) {
  const roles = ["viewer", "operator", "admin"];
  return needed !== "" && roles.indexOf(role) >= roles.indexOf(needed);
}
