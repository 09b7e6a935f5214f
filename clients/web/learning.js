// MIDI learn: press the button, touch a control, move a MIDI control.

import { element, setAttribute } from "./dom.js";
import { pathName } from "./format.js";

/** The learn button, and the bar that says what is awaited. desk: request, mayAct, complain. */
export class Learning {
  constructor(desk, section) {
    this.desk = desk;
    this.section = section;
    this.isOn = false;
    this.path = "";
    const switchOver = () => this.turn(!this.isOn);
    const lamp = element("span", { class: "lamp", "aria-hidden": "true" });
    const attributes = { type: "button", class: "toggle learn", "aria-pressed": "false" };
    this.button = element("button", { ...attributes, on: { click: switchOver } }, lamp, "MIDI learn");
    this.text = element("p", { role: "status" });
    const forget = () => this._ask("unlearn");
    this.forget = element("button", { type: "button", on: { click: forget } }, "Forget its MIDI controls");
    const done = element("button", { type: "button", on: { click: () => this.turn(false) } }, "Done");
    section.replaceChildren(this.text, element("div", { class: "row" }, this.forget, done));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isOn) this.turn(false);
    });
    this.render();
  }

  /** Begin or end choosing. */
  turn(isOn) {
    if (isOn && !this.desk.mayAct("operator")) return;
    this.isOn = isOn;
    if (!isOn && this.path) this._send("learn", "");
    this.render();
  }

  /** Whether a touch of a control chose it instead of moving it. */
  takes(path) {
    if (!this.isOn) return false;
    this._send("learn", path);
    return true;
  }

  /** The node awaits a MIDI control for a path; empty: for none. */
  follow(path) {
    this.path = path;
    this.render();
  }

  /** The connection came or went, or the role changed. */
  enable() {
    const isEnabled = this.desk.mayAct("operator");
    setAttribute(this.button, "aria-disabled", !isEnabled);
    if (!isEnabled) this.isOn = false;
    this.render();
  }

  /** Show what is awaited. */
  render() {
    setAttribute(this.button, "aria-pressed", this.isOn);
    document.body.classList.toggle("learning-on", this.isOn);
    this.section.hidden = !this.isOn && !(this.path && this.desk.mayAct("viewer"));
    this.forget.hidden = !this.path;
    const said = this.path
      ? `Move the MIDI control that shall move ${pathName(this.path)}.`
      : "Touch a control of this page (Enter on a fader), then move a MIDI control.";
    if (this.text.textContent !== said) this.text.textContent = said;
  }

  _ask(type) {
    const path = this.path;
    if (path) this._send(type, path);
  }

  _send(type, path) {
    this.desk.request(type, { path }).catch((error) => this.desk.complain(error));
  }
}
