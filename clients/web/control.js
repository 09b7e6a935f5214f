// What every control of a parameter does: follow the node, send, be disabled, be learned.

import { setAttribute } from "./dom.js";
import { Linked } from "./linked.js";

/**
 * Base of sliders, switches and choices.
 *
 * desk: set(path, value) -> promise, mayset(path), learns(path) -> whether a touch chose it for MIDI.
 */
export class Control {
  constructor(desk, path, value) {
    this.desk = desk;
    this.path = path;
    this.linked = new Linked(value, (sent) => this._sendOff(sent));
    this.isEnabled = false;
  }

  /** The element that takes the focus and the touch. */
  get target() {
    return this.element;
  }

  /** The node says what holds. */
  follow(value) {
    this.linked.follow(value);
    this.render();
  }

  /** The connection came or went, or the role changed. */
  enable() {
    this.isEnabled = this.desk.maySet(this.path);
    if (!this.isEnabled) this.linked.reset();
    setAttribute(this.target, "aria-disabled", !this.isEnabled);
    this.render();
  }

  /** Move the parameter, as a hand on this control does. */
  move(value) {
    if (!this.isEnabled) return;
    this.linked.move(value);
    this.render();
  }

  /** Show whether a MIDI control is awaited for this parameter. */
  markLearning(path) {
    this.target.classList.toggle("awaits-midi", path === this.path);
  }

  async _sendOff(value) {
    try {
      await this.desk.set(this.path, value);
    } catch (error) {
      this.desk.complain(error);
    }
    if (this.linked.isWaiting) this.linked.settle();
    this.render();
  }
}
