// Effect chains as data: lines, names of inserts, edits, and what can be put in. No DOM.

/** What a chain takes: the node refuses more. */
export const MOST_INSERTS = 8;
const COPY = /^(.+)-([2-9]|[1-9][0-9])$/;
const LAST_COPY = 99;

/** How the effects that come with the node are grouped; others are plugins. */
export const GROUPS = [
  ["Dynamics", ["brickwall_limiter", "compressor", "limiter", "noise_gate"]],
  [
    "Filters",
    ["high_shelf_filter", "highpass_filter", "ladder_filter", "low_shelf_filter", "lowpass_filter", "peak_filter"],
  ],
  ["Modulation and pitch", ["chorus", "phaser", "pitch_shift"]],
  ["Room and echo", ["convolution", "delay", "reverb"]],
  ["Level and dirt", ["bitcrush", "clipping", "distortion", "gain", "invert"]],
  ["Old machines", ["gsm_full_rate_compressor", "mp3_compressor", "resample"]],
];
const OTHERS = "Plugins";

/** Names of the inserts in a chain's line, first to last. */
export function namesOf(line) {
  return String(line ?? "")
    .split(" ")
    .filter(Boolean);
}

/** Path of a stem's chain. */
export function linePath(stem) {
  return `stem/${stem}/chain`;
}

/** Whether a path is that of a chain. */
export function isLine(path) {
  return /^stem\/[^/]+\/chain$/.test(path);
}

/** Path of an insert's parameter. */
export function insertPath(stem, name, parameter) {
  return `stem/${stem}/fx/${name}/${parameter}`;
}

/** Key of an insert's effect and which copy it is, from 1. effects: by key. */
export function partsOf(name, effects) {
  const match = COPY.exec(name);
  if (effects.has(name) || !match) return { key: name, number: 1 };
  return { key: match[1], number: Number(match[2]) };
}

/** Name of an insert for people: "Reverb", "Reverb 2". */
export function titleOf(name, effects) {
  const { key, number } = partsOf(name, effects);
  const title = effects.get(key)?.title ?? key.replaceAll("_", " ");
  return number > 1 ? `${title} ${number}` : title;
}

/** The name that one more insert of an effect gets: "reverb-2" where there is one; null if there is none. */
export function freeName(names, key, effects) {
  if (!names.includes(key)) return key;
  for (let number = 2; number <= LAST_COPY; number++) {
    const name = `${key}-${number}`;
    if (!names.includes(name) && !effects.has(name)) return name;
  }
  return null;
}

/** Names with one of them at another place; as they are where the name is not among them. */
export function movedTo(names, name, place) {
  if (!names.includes(name)) return names;
  const rest = names.filter((other) => other !== name);
  const at = Math.min(Math.max(place, 0), rest.length);
  return [...rest.slice(0, at), name, ...rest.slice(at)];
}

/** Parameters of an insert in the table's order, without bypass; dry/wet first. */
export function insertInfos(infos, stem, name) {
  const at = insertPath(stem, name, "");
  const own = [...infos.values()].filter((info) => info.path.startsWith(at) && info.path !== `${at}bypass`);
  const isMix = (info) => info.path === `${at}dry_wet`;
  return [...own.filter(isMix), ...own.filter((info) => !isMix(info))];
}

/** Effects whose title, text or key hold every word. */
export function matching(effects, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return effects.filter((effect) => {
    const said = `${effect.title} ${effect.key} ${effect.doc}`.toLowerCase();
    return words.every((word) => said.includes(word));
  });
}

/** Effects in their groups: [[title, effects]], without empty ones. */
export function groupsOf(effects) {
  const known = new Set(GROUPS.flatMap(([, keys]) => keys));
  const groups = GROUPS.map(([title, keys]) => [title, effects.filter((effect) => keys.includes(effect.key))]);
  groups.push([OTHERS, effects.filter((effect) => !known.has(effect.key))]);
  return groups.filter(([, found]) => found.length);
}

/** What the strip's button says of a chain: "FX 2", "FX 1/2" where one of two is bypassed, "+ FX". */
export function countText(nActive, n) {
  if (n === 0) return "+ FX";
  return nActive === n ? `FX ${n}` : `FX ${nActive}/${n}`;
}
