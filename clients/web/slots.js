// The short list of a chain in its strip: a lamp and a name for each insert, and a button that opens the rack.

import { Toggle } from "./buttons.js";
import { countText, insertPath } from "./chains.js";
import { arrange, element, setAttribute, setText } from "./dom.js";

/** Slots of one stem. open(stem, insert, from): shows the rack; an empty insert: the whole chain. */
export class Slots {
  constructor(desk, stem, open) {
    this.desk = desk;
    this.stem = stem;
    this.open = open;
    this.rows = new Map();
    this.list = element("ul", { class: "slot-list", "aria-label": `${stem} effects` });
    const show = () => open(stem, "", this.button);
    this.button = element(
      "button",
      { type: "button", class: "fx", "aria-expanded": "false", "aria-controls": "effects", on: { click: show } },
      "+ FX",
    );
    this.element = element("div", { class: "slots" }, this.list, this.button);
  }

  /** Controls that follow the node. */
  get controls() {
    return [...this.rows.values()].map((row) => row.bypass);
  }

  /** Show inserts. titles: of each one. */
  draw(names, titles) {
    const next = new Map();
    names.forEach((name, i) => {
      const known = this.rows.get(name);
      next.set(name, known?.title === titles[i] ? known : this._row(name, titles[i]));
    });
    this.rows = next;
    arrange(
      this.list,
      [...next.values()].map((row) => row.element),
      () => this.button,
    );
    this.list.hidden = names.length === 0;
    this.count();
  }

  /** Say how many there are, and how many of them are heard. */
  count() {
    const rows = [...this.rows.values()];
    const nActive = rows.filter((row) => row.bypass.linked.shown !== true).length;
    setText(this.button, countText(nActive, rows.length));
    this.button.classList.toggle("partly", nActive < rows.length);
    const bypassed = nActive < rows.length ? `, ${rows.length - nActive} bypassed` : "";
    setAttribute(this.button, "aria-label", `${this.button.textContent}: ${this.stem} effects${bypassed}`);
  }

  /** Show whether the rack shows this stem. */
  mark(isShown) {
    setAttribute(this.button, "aria-expanded", isShown);
  }

  _row(name, title) {
    const path = insertPath(this.stem, name, "bypass");
    const bypass = new Toggle(this.desk, path, this.desk.values.get(path), {
      text: "",
      label: `Bypass ${this.stem} ${title}`,
      className: "bypass",
    });
    bypass.enable();
    const label = `${title}, ${this.stem} effect`;
    const attributes = { type: "button", class: "slot-name", "aria-label": label, title };
    const button = element("button", attributes, title);
    button.addEventListener("click", () => this.open(this.stem, name, button));
    return { title, bypass, element: element("li", { class: "slot" }, bypass.element, button) };
  }
}
