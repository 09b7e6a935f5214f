// Scale of a slider that is generated from the table of parameters. No DOM.

import { limited } from "./law.js";

/** Steps of a whole range where the table names none. */
const STEPS = 100;
/** Digits of a value that is moved by ratio. */
const DIGITS = 4;

/** Heights and key steps of a number with limits; by ratio where the table says so, as with frequencies. */
export function scaleOf(info) {
  const { lowest, highest } = info;
  const home = typeof info.default === "number" ? info.default : lowest;
  const ends = { lowest, highest, home };
  return info.is_log && lowest > 0 ? ratioScale(ends) : linearScale(ends, info.step);
}

function linearScale({ lowest, highest, home }, told) {
  const step = told ?? roundStep((highest - lowest) / STEPS);
  return {
    steps: { small: step / 10, normal: step, page: step * 10, lowest, highest, home },
    toHeight: (value) => limited((value - lowest) / (highest - lowest), 0, 1),
    ofHeight: (height) => limited(onGrid(lowest + height * (highest - lowest), step / 10), lowest, highest),
  };
}

function ratioScale({ lowest, highest, home }) {
  const ratio = highest / lowest;
  const toHeight = (value) => limited(Math.log(value / lowest) / Math.log(ratio), 0, 1);
  const ofHeight = (height) => limited(Number((lowest * ratio ** height).toPrecision(DIGITS)), lowest, highest);
  const after = (value, way) => ofHeight(limited(toHeight(value) + way, 0, 1));
  return {
    steps: { small: 0.1 / STEPS, normal: 1 / STEPS, page: 10 / STEPS, lowest, highest, home, after },
    toHeight,
    ofHeight,
  };
}

/** The largest of 1, 2 and 5 times a power of ten that is no larger. */
export function roundStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  const factor = [5, 2, 1].find((n) => n * power <= size * (1 + 1e-9)) ?? 1;
  return Number((factor * power).toPrecision(1));
}

function onGrid(value, step) {
  return Number((Math.round(value / step) * step).toPrecision(12)) + 0;
}
