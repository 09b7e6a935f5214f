// Scale of a slider that is generated from the table of parameters. No DOM.

import { limited } from "./law.js";

const LOGARITHMIC_FROM = 50;
/** Steps of a whole range where the table names none. */
const STEPS = 100;

/** Heights and key steps of a number with limits; by ratio where a positive range spans 50 times or more. */
export function linearScale(info) {
  const { lowest, highest } = info;
  const isByRatio = lowest > 0 && highest / lowest >= LOGARITHMIC_FROM;
  const step = info.step ?? roundStep((highest - lowest) / STEPS);
  const home = typeof info.default === "number" ? info.default : lowest;
  const fine = isByRatio ? roundStep(lowest / 10) : step / 10;
  const toHeight = isByRatio
    ? (value) => Math.log(value / lowest) / Math.log(highest / lowest)
    : (value) => (value - lowest) / (highest - lowest);
  const fromHeight = isByRatio
    ? (height) => lowest * (highest / lowest) ** height
    : (height) => lowest + height * (highest - lowest);
  return {
    steps: { small: step / 10, normal: step, page: step * 10, lowest, highest, home },
    toHeight: (value) => limited(toHeight(value), 0, 1),
    ofHeight: (height) => limited(onGrid(fromHeight(height), fine), lowest, highest),
  };
}

/** The power of ten at or below a step. */
export function roundStep(size) {
  return 10 ** Math.floor(Math.log10(size));
}

function onGrid(value, step) {
  return Number((Math.round(value / step) * step).toPrecision(12));
}
