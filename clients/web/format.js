// Values as people read and hear them. No DOM.

import { SILENT_DB } from "./law.js";

/** "-6.0 dB", or "silent" at the bottom. */
export function dbText(gainDb) {
  if (!(gainDb > SILENT_DB)) return "silent";
  const text = gainDb.toFixed(1);
  return `${text === "-0.0" ? "0.0" : text} dB`;
}

/** dB for a screen: a real minus sign, a plus where louder, "off" at the bottom. */
export function dbShown(gainDb) {
  if (!(gainDb > SILENT_DB)) return "off";
  const text = Math.abs(gainDb).toFixed(1);
  if (text === "0.0") return "0.0";
  return gainDb > 0 ? `+${text}` : `\u2212${text}`;
}

/** "centre", "30 % left". */
export function panText(pan) {
  const percent = Math.round(Math.abs(pan) * 100);
  if (percent === 0) return "centre";
  return `${percent} % ${pan < 0 ? "left" : "right"}`;
}

/** "C", "L 30", "R 100". */
export function panShown(pan) {
  const percent = Math.round(Math.abs(pan) * 100);
  if (percent === 0) return "C";
  return `${pan < 0 ? "L" : "R"} ${percent}`;
}

/** Level of a meter: "-12 dB", "silent" below the scale. */
export function levelText(levelDb) {
  if (!(levelDb > -60)) return "silent";
  return `${Math.round(levelDb) + 0} dB`;
}

/** A number with its unit, with as many digits as its size needs. */
export function numberText(value, unit = "") {
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`.trim();
}

/** Rate of a device: "44.1 kHz". */
export function rateText(rateHz) {
  return `${Number((rateHz / 1000).toFixed(2))} kHz`;
}

/** A number of a parameter: shares in percent, high frequencies in kHz. */
export function parameterText(value, { unit = "", lowest, highest }) {
  if (unit === "" && lowest === 0 && highest === 1) return numberText(Number((value * 100).toFixed(1)), "%");
  if (unit === "Hz" && value >= 1000) return rateText(value);
  return numberText(value, unit);
}

/** Name of a parameter for people: "vocals fader", "vocals reverb room size". */
export function pathName(path) {
  const parts = path.split("/");
  if (parts[0] === "stem") parts.shift();
  const isInsert = parts[1] === "fx";
  if (isInsert) parts.splice(1, 1);
  const last = parts.pop();
  const name = last === "gain_db" && !isInsert ? "fader" : parameterName(last);
  return [...parts.map((part) => part.replaceAll("_", " ")), name].join(" ");
}

/** Name of a parameter without its unit: "cutoff frequency", "dry/wet". */
export function parameterName(name) {
  if (name === "dry_wet") return "dry/wet";
  return name.replaceAll("_", " ").replace(/ (db|ms|hz|s)$/, "");
}

/** An event in words: "20:15:03 worker died (exit code -9)". */
export function eventText(event) {
  const facts = Object.entries(event.facts ?? {})
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`)
    .join(", ");
  const kind = event.kind.replaceAll("-", " ").replaceAll("_", " ");
  return facts ? `${kind} (${facts})` : kind;
}

/** Local time of day of UNIX seconds: "20:15:03". */
export function clockText(timeS) {
  const at = new Date(timeS * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}
