// Sliders: the faders, pan, and numbers of effects. By pointer (relative: no jump), by keys, by double tap.

import { Control } from "./control.js";
import { element, setAttribute, setText } from "./dom.js";
import { dbShown, dbText, panShown, panText, parameterText } from "./format.js";
import { FADER_MARKS, FADER_STEPS, PAN_STEPS, SILENT_DB, dbOfHeight, heightOfDb, limited, valueAfterKey } from "./law.js";
import { scaleOf } from "./scales.js";

const DOUBLE_TAP_MS = 400;
const TAP_PX = 5;
const FINE = 0.1;
/** A finger on a short slider moves farther than its thumb. */
const LEAST_TRAVEL_PX = 120;

/**
 * A slider of one parameter.
 *
 * kind: {orientation, className, label, steps, toHeight, ofHeight, text, shown}.
 */
export class Slider extends Control {
  constructor(desk, path, value, kind) {
    super(desk, path, value);
    this.kind = kind;
    this.isVertical = kind.orientation === "vertical";
    this.thumb = element("span", { class: "thumb", "aria-hidden": "true" });
    this.readout = element("span", { class: "readout", "aria-hidden": "true" });
    this.element = element(
      "div",
      {
        class: `slider ${kind.className}`,
        role: "slider",
        tabindex: "0",
        "aria-label": kind.label,
        "aria-orientation": kind.orientation,
        "aria-valuemin": kind.steps.lowest,
        "aria-valuemax": kind.steps.highest,
        on: {
          pointerdown: (event) => this._press(event),
          pointermove: (event) => this._drag(event),
          pointerup: (event) => this._lift(event),
          pointercancel: () => this._letGo(),
          lostpointercapture: () => this._letGo(),
          dblclick: () => this.wasTapped && this.move(this.kind.steps.home),
          keydown: (event) => this._key(event),
        },
      },
      element("span", { class: "track", "aria-hidden": "true" }),
      this.thumb,
    );
    this.drag = null;
    this.lastTapMs = -Infinity;
    this.wasTapped = false;
    this.render();
  }

  /** Show the value. */
  render() {
    const value = this.linked.shown;
    if (typeof value !== "number") return;
    this.element.style.setProperty("--height", this.kind.toHeight(value));
    this.element.classList.toggle("held", this.linked.isHeld);
    setAttribute(this.element, "aria-valuenow", value);
    setAttribute(this.element, "aria-valuetext", this.kind.text(value));
    setText(this.readout, this.kind.shown(value));
  }

  _press(event) {
    if (event.button !== 0 || this.drag) return;
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    this.wasTapped = false;
    if (this.desk.learns(this.path) || !this.isEnabled) return;
    this.element.setPointerCapture(event.pointerId);
    this.linked.hold();
    const at = this._along(event);
    this.drag = { id: event.pointerId, at, moved: 0, height: this.kind.toHeight(this.linked.shown) };
    this.render();
  }

  _drag(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.id) return;
    if (!this.isEnabled) {
      this._letGo();
      return;
    }
    const at = this._along(event);
    const way = at - drag.at;
    drag.at = at;
    drag.moved += Math.abs(way);
    if (drag.moved < TAP_PX && !drag.isMoving) return;
    drag.isMoving = true;
    const travel = this._travel();
    drag.height = limited(drag.height + (way / travel) * (event.shiftKey ? FINE : 1), 0, 1);
    this.move(this.kind.ofHeight(drag.height));
  }

  _lift(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.id) return;
    this.wasTapped = !drag.isMoving;
    if (this.wasTapped && event.pointerType !== "mouse") this._tap(event.timeStamp);
    this._letGo();
  }

  /** Two taps are a double tap; of a mouse the system decides (`dblclick`), as its user has set it. */
  _tap(nowMs) {
    if (nowMs - this.lastTapMs < DOUBLE_TAP_MS) {
      this.move(this.kind.steps.home);
      this.lastTapMs = -Infinity;
    } else this.lastTapMs = nowMs;
  }

  _letGo() {
    this.drag = null;
    this.linked.release();
    this.render();
  }

  _key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" && this.desk.learns(this.path)) {
      event.preventDefault();
      return;
    }
    const value = valueAfterKey(event.key, event.shiftKey, this.linked.shown, this.kind.steps);
    if (value === null) return;
    event.preventDefault();
    this.move(value);
  }

  _along(event) {
    return this.isVertical ? -event.clientY : event.clientX;
  }

  _travel() {
    const [box, thumb] = [this.element.getBoundingClientRect(), this.thumb.getBoundingClientRect()];
    return Math.max(LEAST_TRAVEL_PX, this.isVertical ? box.height - thumb.height : box.width - thumb.width);
  }
}

/** A vertical fader in dB. */
export function fader(desk, path, value, label) {
  const made = new Slider(desk, path, value, {
    orientation: "vertical",
    className: "fader",
    label,
    steps: FADER_STEPS,
    toHeight: heightOfDb,
    ofHeight: dbOfHeight,
    text: dbText,
    shown: dbShown,
  });
  for (const [gainDb, height] of FADER_MARKS) {
    made.element.prepend(
      element("span", { class: gainDb === 0 ? "tick zero" : "tick", "aria-hidden": "true", "--at": height }),
    );
  }
  return made;
}

/** Labels of a fader's scale, for beside it. */
export function faderScale() {
  const label = (gainDb) => (gainDb === SILENT_DB ? "off" : String(gainDb).replace("-", "\u2212"));
  return element(
    "div",
    { class: "scale", "aria-hidden": "true" },
    ...FADER_MARKS.map(([gainDb, height]) => element("span", { "--at": height }, label(gainDb))),
  );
}

/** A horizontal pan. */
export function pan(desk, path, value, label) {
  return new Slider(desk, path, value, {
    orientation: "horizontal",
    className: "pan",
    label,
    steps: PAN_STEPS,
    toHeight: (value) => (value + 1) / 2,
    ofHeight: (height) => Math.round((height * 2 - 1) * 100) / 100 + 0,
    text: panText,
    shown: panShown,
  });
}

/** A horizontal slider of any number that the table describes with both limits. */
export function numberSlider(desk, info, value, label) {
  const scale = scaleOf(info);
  return new Slider(desk, info.path, value, {
    orientation: "horizontal",
    className: "number",
    label,
    steps: scale.steps,
    toHeight: scale.toHeight,
    ofHeight: scale.ofHeight,
    text: (value) => parameterText(value, info),
    shown: (value) => parameterText(value, info).replace(/^-/, "\u2212"),
  });
}
