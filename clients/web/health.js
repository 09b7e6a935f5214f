// The line of health, and the list of events.

import { element, setText } from "./dom.js";
import { clockText, eventText, numberText, rateText } from "./format.js";
import { healthOf } from "./facts.js";

const EVENTS_KEPT = 20;

/** What the node says of itself. */
export class Health {
  constructor(section, inputMeter) {
    this.facts = element("dl", { class: "facts" });
    this.items = new Map();
    const level = element("div", { class: "input-level" }, element("span", { "aria-hidden": "true" }, "Input"));
    level.append(inputMeter.element, inputMeter.clip);
    section.replaceChildren(this.facts, level);
  }

  /** Show values and counters. */
  show(values, counters) {
    for (const { name, text, mood } of healthOf(values, counters, { numberText, rateText })) {
      if (!this.items.has(name)) {
        const said = element("dd");
        this.items.set(name, said);
        this.facts.append(element("div", {}, element("dt", {}, name), said));
      }
      const said = this.items.get(name);
      setText(said, text);
      said.className = mood;
    }
  }
}

/** The last events, the newest first. */
export class Events {
  constructor(section) {
    this.list = element("ol", { class: "event-list" });
    const log = element("div", { class: "event-log", role: "log", "aria-label": "Events", tabindex: "0" }, this.list);
    this.none = element("li", { class: "note" }, "Nothing has happened.");
    this.list.append(this.none);
    section.replaceChildren(section.querySelector("h2"), log);
  }

  /** Put an event on top. */
  add(event) {
    this.none.remove();
    const at = new Date(event.time_s * 1000);
    const time = element("time", { datetime: at.toISOString() }, clockText(event.time_s));
    this.list.prepend(element("li", { class: `event ${event.kind}` }, time, element("span", {}, eventText(event))));
    while (this.list.childElementCount > EVENTS_KEPT) this.list.lastElementChild.remove();
  }
}
