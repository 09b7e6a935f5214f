// Fader law and meter scale: heights (0 bottom, 1 top) from decibels and back. No DOM.

export const SILENT_DB = -120;
export const HIGHEST_DB = 12;

/** Marks of the fader, top to bottom, and the heights they stand at; straight lines between them. */
export const FADER_MARKS = [
  [12, 1],
  [6, 0.875],
  [0, 0.75],
  [-6, 0.625],
  [-12, 0.5],
  [-24, 0.3],
  [-48, 0.1],
  [SILENT_DB, 0],
];

/** Marks of the meters in dB of full scale. */
export const METER_MARKS = [
  [0, 1],
  [-6, 0.85],
  [-12, 0.7],
  [-24, 0.45],
  [-36, 0.25],
  [-48, 0.1],
  [-60, 0],
];

function interpolate(marks, from, to, value) {
  const [first, last] = [marks[0], marks[marks.length - 1]];
  if (!(value < first[from])) return first[to]; // NaN too
  if (value <= last[from]) return last[to];
  const i = marks.findIndex((mark) => value >= mark[from]);
  const [above, below] = [marks[i - 1], marks[i]];
  const part = (value - below[from]) / (above[from] - below[from]);
  return below[to] + part * (above[to] - below[to]);
}

/** Height of a fader's thumb. */
export function heightOfDb(gainDb) {
  return interpolate(FADER_MARKS, 0, 1, gainDb);
}

/** Gain of a fader's height, in steps of 0.1 dB. */
export function dbOfHeight(height) {
  return tenths(interpolate(FADER_MARKS, 1, 0, height));
}

/** Height of a meter's bar; silence and levels that are no number have none. */
export function meterHeight(levelDb) {
  return Number.isNaN(levelDb) ? 0 : interpolate(METER_MARKS, 0, 1, levelDb);
}

/** A value in steps of 0.1, without the noise of binary fractions and without -0. */
export function tenths(value) {
  return Math.round(value * 10) / 10 + 0;
}

/** A value within a range. */
export function limited(value, lowest, highest) {
  return Math.min(Math.max(value, lowest), highest);
}

/**
 * Value after a key on a slider; null where the key is none of a slider's.
 * steps: {small, normal, page, lowest, highest, home (for key 0), after(value, step) where it is no sum}.
 */
export function valueAfterKey(key, shift, value, steps) {
  const step = shift ? steps.small : steps.normal;
  const moves = {
    ArrowUp: step,
    ArrowRight: step,
    ArrowDown: -step,
    ArrowLeft: -step,
    PageUp: steps.page,
    PageDown: -steps.page,
  };
  if (key === "Home") return steps.lowest;
  if (key === "End") return steps.highest;
  if (key === "0") return steps.home;
  if (!(key in moves)) return null;
  if (steps.after) return steps.after(value, moves[key]);
  const moved = Math.round((value + moves[key]) * 1e6) / 1e6 + 0;
  return limited(moved, steps.lowest, steps.highest);
}

/** Steps of a fader in dB. */
export const FADER_STEPS = {
  small: 0.1,
  normal: 1,
  page: 6,
  lowest: SILENT_DB,
  highest: HIGHEST_DB,
  home: 0,
};

/** Steps of pan: -1 left, 1 right. */
export const PAN_STEPS = { small: 0.01, normal: 0.05, page: 0.25, lowest: -1, highest: 1, home: 0 };
