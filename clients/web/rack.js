// The rack: the chain of one stem with its inserts, and the chains of all stems as the strips show them.

import { MOST_INSERTS, freeName, linePath, movedTo, namesOf, partsOf, titleOf } from "./chains.js";
import { Control } from "./control.js";
import { arrange, element, setAttribute, setText } from "./dom.js";
import { InsertRow } from "./inserts.js";
import { Picker } from "./picker.js";
import { Slots } from "./slots.js";

/** A chain's line: what is shown and sent is the whole line, one message at a time. */
class Line extends Control {
  constructor(desk, stem, draw) {
    super(desk, linePath(stem), desk.values.get(linePath(stem)) ?? "");
    this.draw = draw;
  }

  get names() {
    return namesOf(this.linked.shown);
  }

  enable() {
    this.isEnabled = this.desk.maySet(this.path);
    if (!this.isEnabled) this.linked.reset();
    this.render();
  }

  render() {
    this.draw();
  }

  markLearning() {}
}

/** Whether parameters stand beside the list, as in the style sheet. */
function isWide() {
  return matchMedia("(min-width: 1001px)").matches;
}

/** All chains. section: of the rack; stems: that have a chain; view: {stem, open by stem}, kept by the page. */
export class Rack {
  constructor(desk, section, stems, view) {
    this.desk = desk;
    this.section = section;
    this.view = view;
    this.effects = new Map();
    this.troubles = new Map();
    this.rows = new Map();
    this.origin = null;
    const open = (stem, name, from) => this.show(stem, name, from);
    this.stems = stems.map(({ name }) => name);
    this.slots = new Map(this.stems.map((stem) => [stem, new Slots(desk, stem, open)]));
    this.lines = new Map();
    for (const stem of this.stems) this.lines.set(stem, new Line(desk, stem, () => this.draw(stem)));
    if (!this.lines.has(view.stem)) view.stem = "";
    this._furnish(stems);
    this.redraw();
  }

  /** The stem that the rack shows; empty: none. */
  get stem() {
    return this.view.stem;
  }

  /** Whether the chain that is shown may be edited now. */
  get isEnabled() {
    return this.lines.get(this.stem)?.isEnabled ?? false;
  }

  /** Every control that follows a parameter. */
  get controls() {
    const rows = [...this.rows.values(), ...this.slots.values()];
    return rows.flatMap((row) => row.controls);
  }

  /** Show a stem's chain, with one insert open, and take the focus. from: where it goes back to. */
  show(stem, name, from) {
    this._choose(stem);
    this.origin = from;
    const row = this.rows.get(name);
    if (row) this._openOnly(row);
    this.section.scrollIntoView({ block: "nearest" });
    const target = row ?? [...this.rows.values()][0];
    (target?.button ?? this.picker.button).focus();
    row?.body.scrollIntoView({ block: "nearest" });
  }

  /** Close it. */
  hide() {
    const from = this.origin?.isConnected ? this.origin : this.slots.get(this.stem).button;
    this._choose("");
    from.focus();
  }

  /** The table was told anew. effects: that can be put in; none: as before. */
  describe(effects) {
    if (effects) {
      this.effects = new Map(effects.map((effect) => [effect.key, effect]));
      this.picker.offer(effects);
    }
    this.redraw();
    for (const row of this.rows.values()) row.describe();
    this.enable();
  }

  /** The node says what holds. */
  follow(touched) {
    const { values } = this.desk;
    for (const line of this.lines.values()) if (touched.has(line.path)) line.follow(values.get(line.path) ?? "");
    for (const control of this.controls) {
      if (touched.has(control.path) && values.has(control.path)) control.follow(values.get(control.path));
    }
    for (const at of this.troubles.keys()) {
      if (values.get(`${at}/bypass`) !== true) this.troubles.delete(at);
    }
    for (const row of this.rows.values()) row.tell();
    for (const slots of this.slots.values()) slots.count();
  }

  /** The connection came or went, or the role changed. */
  enable() {
    for (const line of this.lines.values()) line.enable();
    for (const slots of this.slots.values()) for (const control of slots.controls) control.enable();
    for (const row of this.rows.values()) row.enable();
  }

  /** Something happened to an insert. */
  take(event) {
    if (event.kind !== "insert-bypassed") return;
    const { stem, insert, why } = event.facts;
    this.troubles.set(`stem/${stem}/fx/${insert}`, String(why ?? ""));
    this.rows.get(insert)?.tell();
  }

  /** Why the node bypassed an insert; empty where it did not. */
  whyOf(stem, name) {
    const at = `stem/${stem}/fx/${name}`;
    return this.desk.values.get(`${at}/bypass`) === true ? (this.troubles.get(at) ?? "") : "";
  }

  // -- edits ------------------------------------------------------------------------------------------------

  /** Open a row, or close it. */
  turn(row) {
    if (row.isOpen) {
      row.turn(false);
      this.view.open[this.stem] = "";
    } else {
      this._openOnly(row);
      row.body.scrollIntoView({ block: "nearest" });
    }
  }

  /** Put an insert to another place. */
  move(name, place) {
    const { names } = this._line();
    if (!names.includes(name)) return;
    this._edit(movedTo(names, name, place), `${this._title(name)} is now ${place + 1} of ${names.length}`);
  }

  /** Take an insert out. */
  remove(name) {
    const left = this._line().names.filter((other) => other !== name);
    this._edit(left, `${this._title(name)} removed`);
  }

  /** Put an effect at the end. */
  add(key) {
    const { names } = this._line();
    const name = freeName(names, key, this.effects);
    if (!name) return;
    this.view.open[this.stem] = name;
    this._edit([...names, name], `${this._title(name)} added`);
    this.rows.get(name)?.button.focus();
  }

  /** A row was dragged: its order is the new one; null: it was not meant. */
  dragged(row) {
    if (!row) {
      this.draw(this.stem);
      return;
    }
    const at = new Map([...this.rows.values()].map((other) => [other.element, other.name]));
    const order = [...this.list.children].map((child) => at.get(child)).filter(Boolean);
    const places = this._line().names.filter((name) => name !== row.name);
    const before = order.slice(0, order.indexOf(row.name)).filter((name) => places.includes(name));
    this.move(row.name, before.length);
    this.draw(this.stem);
  }

  _edit(names, said) {
    if (!this.isEnabled) return;
    setText(this.status, said);
    this._line().move(names.join(" "));
  }

  _line() {
    return this.lines.get(this.stem);
  }

  _title(name) {
    return titleOf(name, this.effects);
  }

  // -- drawing ----------------------------------------------------------------------------------------------

  /** Draw all chains. */
  redraw() {
    for (const stem of this.stems) this.draw(stem);
    this._mark();
  }

  /** Draw a chain: in its strip, and in the rack if it is the one that is shown. */
  draw(stem) {
    const line = this.lines.get(stem);
    if (!line) return; // it is being made
    this.slots.get(stem).draw(
      line.names,
      line.names.map((name) => this._title(name)),
    );
    if (stem === this.stem) this._drawRack(line);
  }

  _drawRack(line) {
    const { names } = line;
    if ([...this.rows.values()].some((row) => row.drag?.isMoving)) return; // drawn when it is dropped
    const next = new Map();
    for (const name of names) {
      const [title, known] = [this._title(name), this.rows.get(name)];
      next.set(name, known?.title === title ? known : this._row(name, title));
    }
    this.rows = next;
    const rows = [...next.values()];
    const instead = (place) => (rows[Math.min(place, rows.length - 1)] ?? { button: this.picker.button }).button;
    arrange(this.list, rows.map((row) => row.element), instead);
    rows.forEach((row, i) => row.place(i, rows.length));
    const open = next.get(this.view.open[this.stem]);
    if (open) this._openOnly(open);
    this.list.hidden = names.length === 0;
    this.none.hidden = names.length > 0;
    setText(this.none, `No effects: ${this.stem} stays as it is.`);
    const isFull = names.length >= MOST_INSERTS;
    this.picker.enable(line.isEnabled && !isFull, isFull ? `Full: ${MOST_INSERTS} effects` : "");
  }

  _row(name, title) {
    return new InsertRow(this, name, title, this.effects.get(partsOf(name, this.effects).key)?.doc ?? "");
  }

  _openOnly(row) {
    for (const other of this.rows.values()) if (other !== row && other.isOpen) other.turn(false);
    this.view.open[this.stem] = row.name;
    if (!row.isOpen) row.turn(true);
  }

  _choose(stem) {
    if (stem !== this.stem) {
      this.rows.clear();
      this.list.replaceChildren();
      this.picker.turn(false);
      setText(this.status, "");
      this.origin = null;
    }
    this.view.stem = stem;
    this._mark();
    if (!stem) return;
    const { names } = this._line();
    const open = this.view.open[stem];
    if (open === undefined && isWide()) this.view.open[stem] = names[0];
    this.draw(stem);
  }

  _mark() {
    const stem = this.stem;
    this.section.hidden = !stem;
    this.section.style.setProperty("--colour", this.colours.get(stem) ?? "");
    setAttribute(this.list, "aria-label", `Chain of ${stem}`);
    for (const [name, button] of this.tabs) setAttribute(button, "aria-pressed", name === stem);
    for (const [name, slots] of this.slots) slots.mark(name === stem);
  }

  _furnish(stems) {
    this.colours = new Map(stems.map(({ name, colour }) => [name, colour]));
    this.tabs = new Map();
    for (const { name, colour } of stems) {
      const attributes = { type: "button", class: "toggle", "aria-pressed": "false", "--colour": colour };
      const tab = element("button", attributes, name);
      tab.addEventListener("click", () => this._choose(name));
      this.tabs.set(name, tab);
    }
    const close = element("button", { type: "button", "aria-label": "Close effects" }, "Close");
    close.addEventListener("click", () => this.hide());
    this.list = element("ol", { class: "inserts" });
    this.none = element("p", { class: "note" });
    this.status = element("p", { class: "unseen", role: "status" });
    this.picker = new Picker((key) => this.add(key));
    const tabs = element("div", { class: "masks", role: "group", "aria-label": "Effects of" }, ...this.tabs.values());
    const head = element("div", { class: "rack-head" }, this.section.querySelector("h2"), tabs, close);
    this.section.replaceChildren(head, this.picker.element, this.none, this.list, this.status);
  }
}
