// One insert in the rack: its head with bypass, place and removal, and, when it is open, its parameters.

import { Toggle } from "./buttons.js";
import { insertInfos, insertPath } from "./chains.js";
import { element, setAttribute, setText } from "./dom.js";
import { pathName, parameterName } from "./format.js";
import { generated } from "./generated.js";

/** Plugins may have hundreds: from here on they can be searched. */
const SEARCHED_FROM = 24;
const DRAG_PX = 6;

function capital(text) {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/**
 * A row of the rack's list.
 *
 * rack: desk, stem, turn(row), move(name, place), remove(name), dragged(row): its order after a drag.
 */
export class InsertRow {
  constructor(rack, name, title, doc) {
    this.rack = rack;
    this.desk = rack.desk;
    this.stem = rack.stem;
    this.name = name;
    this.title = title;
    this.doc = doc;
    this.isOpen = false;
    this.built = null;
    this.parameters = [];
    this.drag = null;
    const id = `insert-${this.stem}-${name}`;
    const path = insertPath(this.stem, name, "bypass");
    this.bypass = new Toggle(this.desk, path, this.desk.values.get(path), {
      text: "",
      label: `Bypass ${title}`,
      className: "bypass",
    });
    const attributes = { type: "button", class: "insert-name", "aria-expanded": "false", "aria-controls": id };
    this.button = element(
      "button",
      { ...attributes, "aria-keyshortcuts": "Alt+ArrowUp Alt+ArrowDown Delete", title: doc },
      element("span", { class: "insert-title" }, title),
      element("span", { class: "off-note" }, "bypassed"),
    );
    this.button.addEventListener("click", () => rack.turn(this));
    this.grip = this._grip();
    this.up = this._mover("\u2191", "up", -1);
    this.down = this._mover("\u2193", "down", 1);
    this.cross = element("button", { type: "button", class: "icon", "aria-label": `Remove ${title}` }, "\u00d7");
    this.cross.addEventListener("click", () => this.isEnabled && rack.remove(name));
    this.body = element("div", { id, class: "insert-body", hidden: true });
    const head = element("div", { class: "insert-head" }, this.grip, this.bypass.element, this.button);
    head.append(this.up, this.down, this.cross);
    this.element = element(
      "li",
      { class: "insert", on: { keydown: (event) => this._key(event) } },
      head,
      this.body,
    );
    this.enable();
  }

  /** Whether the chain may be edited now. */
  get isEnabled() {
    return this.rack.isEnabled;
  }

  /** Controls that follow the node. */
  get controls() {
    return [this.bypass, ...this.parameters];
  }

  /** Show its place: at the ends it moves one way only. */
  place(i, n) {
    this.at = i;
    this.n = n;
    setAttribute(this.up, "aria-disabled", !this.isEnabled || i === 0);
    setAttribute(this.down, "aria-disabled", !this.isEnabled || i === n - 1);
    setAttribute(this.cross, "aria-disabled", !this.isEnabled);
  }

  /** The connection came or went, or the role changed. */
  enable() {
    for (const control of this.controls) control.enable();
    this.place(this.at ?? 0, this.n ?? 1);
  }

  /** Show or hide the parameters. */
  turn(isOpen) {
    this.isOpen = isOpen;
    setAttribute(this.button, "aria-expanded", isOpen);
    this.element.classList.toggle("open", isOpen);
    this.body.hidden = !isOpen;
    this.built = null;
    this.describe();
  }

  /** Make the controls of its parameters, if the table has others than those that are there. */
  describe() {
    const infos = this.isOpen ? insertInfos(this.desk.infos, this.stem, this.name) : [];
    const shape = JSON.stringify(infos);
    if (shape === this.built) return;
    this.built = shape;
    const made = infos.map((info) => {
      const text = capital(parameterName(info.path.split("/").at(-1)));
      const value = this.desk.values.get(info.path);
      return generated(this.desk, info, value, { text, label: pathName(info.path), isLive: true });
    });
    this.parameters = made.map(({ control }) => control);
    for (const control of this.parameters) control.enable();
    const grid = element("div", { class: "parameters" }, ...made.map(({ row }) => row));
    const search = made.length >= SEARCHED_FROM ? this._search(made) : null;
    this.note = element("p", { class: "trouble", hidden: true });
    const doc = this.doc ? element("p", { class: "note" }, this.doc) : null;
    this.body.replaceChildren(...[this.note, doc, search, grid].filter(Boolean));
    this.tell();
  }

  /** Say why the node bypassed it, as long as it is bypassed. */
  tell() {
    if (!this.note) return;
    const why = this.rack.whyOf(this.stem, this.name);
    this.note.hidden = !why;
    setText(this.note, why ? `The node bypassed it: ${why}` : "");
  }

  _search(made) {
    const id = `find-${this.stem}-${this.name}`;
    const input = element("input", { id, type: "search", autocomplete: "off", spellcheck: "false" });
    input.addEventListener("input", () => {
      const word = input.value.trim().toLowerCase();
      for (const { control, row } of made) row.hidden = !pathName(control.path).toLowerCase().includes(word);
    });
    return element("div", {}, element("label", { for: id }, `Find one of ${made.length} parameters`), input);
  }

  _mover(sign, way, by) {
    const label = `Move ${this.title} ${way}`;
    const made = element("button", { type: "button", class: "icon", "aria-label": label }, sign);
    made.addEventListener("click", () => this._move(by));
    return made;
  }

  _move(by) {
    if (!this.isEnabled || this.at + by < 0 || this.at + by >= this.n) return;
    this.rack.move(this.name, this.at + by);
  }

  _key(event) {
    if (!event.target.closest(".insert-head")) return;
    if (event.altKey && event.key === "ArrowUp") this._move(-1);
    else if (event.altKey && event.key === "ArrowDown") this._move(1);
    else if (event.key === "Delete" && this.isEnabled) this.rack.remove(this.name);
    else return;
    event.preventDefault();
  }

  // -- dragging by the grip: the others move around the row, so that it keeps the pointer -------------------

  _grip() {
    return element("span", {
      class: "grip",
      "aria-hidden": "true",
      on: {
        pointerdown: (event) => this._take(event),
        pointermove: (event) => this._drag(event),
        pointerup: () => this._drop(),
        pointercancel: () => this._drop(false),
        lostpointercapture: () => this._drop(false),
      },
    });
  }

  _take(event) {
    if (event.button !== 0 || !this.isEnabled) return;
    event.preventDefault();
    this.grip.setPointerCapture(event.pointerId);
    this.drag = { id: event.pointerId, from: event.clientY, isMoving: false };
  }

  _drag(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.id) return;
    if (!drag.isMoving && Math.abs(event.clientY - drag.from) < DRAG_PX) return;
    drag.isMoving = true;
    this.element.classList.add("dragged");
    const middle = (row) => {
      const box = row.querySelector(".insert-head").getBoundingClientRect();
      return box.top + box.height / 2;
    };
    const [before, after] = [this.element.previousElementSibling, this.element.nextElementSibling];
    if (before && event.clientY < middle(before)) this.element.after(before);
    else if (after && event.clientY > middle(after)) this.element.before(after);
  }

  _drop(isMeant = true) {
    const drag = this.drag;
    this.drag = null;
    this.element.classList.remove("dragged");
    if (drag?.isMoving) this.rack.dragged(isMeant ? this : null);
  }
}
