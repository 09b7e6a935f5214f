// What the line of health says, and how bad it is: good, fair (look at it), bad. No DOM.

const STATES = {
  wet: ["stems", "good"],
  dry: ["DRY: the mixture", "bad"],
  waiting: ["waiting for the device", "fair"],
  stopped: ["stopped", "bad"],
};
const COUNTED = [
  ["late_hops", "Late hops"],
  ["xruns", "Xruns"],
  ["fallbacks", "Fallbacks"],
  ["worker_deaths", "Worker deaths"],
];

/** Facts in the order they are shown: [{name, text, mood}]; those that are not known are left out. */
export function healthOf(values, counters, { numberText, rateText }) {
  const facts = [];
  const add = (name, text, mood = "") => facts.push({ name, text, mood });
  const state = counters.is_dry ? "dry" : values.get("engine/state");
  if (state) add("Sound", ...(STATES[state] ?? [state, "fair"]));
  const latencyMs = values.get("engine/latency_ms");
  if (latencyMs > 0) add("Latency", numberText(latencyMs, "ms"));
  const rateHz = values.get("engine/rate_hz");
  if (rateHz > 0) add("Rate", rateText(rateHz));
  for (const [key, name] of COUNTED) {
    if (key in counters) add(name, String(counters[key]), counters[key] > 0 ? "fair" : "good");
  }
  const ports = values.get("midi/ports");
  if (ports) add("MIDI", ports.split("\n").join(", "));
  return facts;
}
