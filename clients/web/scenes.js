// Scenes: store, recall with a fade, of some stems only, delete.

import { element, setAttribute } from "./dom.js";

const SURE_MS = 4000;

/** The panel of scenes. desk: request(type, fields), mayAct(), complain(error). */
export class Scenes {
  constructor(desk, section, stems) {
    this.desk = desk;
    this.only = new Set();
    this.shown = null;
    this.name = element("input", { id: "scene-name", type: "text", maxlength: 64, autocomplete: "off" });
    this.fade = element("input", {
      id: "scene-fade",
      type: "number",
      min: 0,
      max: 60,
      step: 0.5,
      value: 0,
      inputmode: "decimal",
    });
    this.storeButton = element("button", { type: "submit" }, "Store");
    this.masks = stems.map(({ name, colour }) => this._mask(name, colour));
    this.list = element("ul", { class: "scene-list" });
    const form = element(
      "form",
      { on: { submit: (event) => this._store(event) } },
      element("label", { for: "scene-name" }, "Name"),
      element("div", { class: "row" }, this.name, this.storeButton),
    );
    const options = element(
      "div",
      { class: "scene-options" },
      element("div", {}, element("label", { for: "scene-fade" }, "Fade, s"), this.fade),
      element(
        "div",
        { role: "group", "aria-label": "Only these stems" },
        element("span", { class: "label", "aria-hidden": "true" }, "Only these stems (none: all)"),
        element("div", { class: "masks" }, ...this.masks),
      ),
    );
    section.replaceChildren(section.querySelector("h2"), form, options, this.list);
  }

  /** Show the scenes the node keeps. presets: those among them that cannot be deleted. */
  follow(text, presets) {
    const shown = `${text}\n\n${presets}`;
    if (shown === this.shown) return;
    this.shown = shown;
    const fixed = new Set(presets.split("\n"));
    const rows = text ? text.split("\n").map((name) => this._row(name, fixed.has(name))) : [];
    if (!rows.length) rows.push(element("li", { class: "note" }, "No scene is stored."));
    this.list.replaceChildren(...rows);
    this.enable();
  }

  /** The connection came or went, or the role changed. */
  enable() {
    const isEnabled = this.desk.mayAct("operator");
    for (const button of [this.storeButton, ...this.masks, ...this.list.querySelectorAll("button")]) {
      setAttribute(button, "aria-disabled", !isEnabled);
    }
    this.name.disabled = this.fade.disabled = !isEnabled;
  }

  _mask(name, colour) {
    const flip = () => {
      if (!this.desk.mayAct("operator")) return;
      if (!this.only.delete(name)) this.only.add(name);
      setAttribute(button, "aria-pressed", this.only.has(name));
    };
    const lamp = element("span", { class: "lamp", "aria-hidden": "true" });
    const attributes = { type: "button", class: "toggle mask", "aria-pressed": "false", "--colour": colour };
    const button = element("button", { ...attributes, on: { click: flip } }, lamp, name);
    return button;
  }

  _row(name, isPreset) {
    const recall = element(
      "button",
      { type: "button", class: "recall", "aria-label": `Recall ${name}`, on: { click: () => this._recall(name) } },
      element("span", { class: "verb" }, "Recall "),
      element("span", { class: "scene-name" }, name),
    );
    if (isPreset) return element("li", {}, recall, element("span", { class: "note preset" }, "preset"));
    const remove = element("button", { type: "button", "aria-label": `Delete ${name}` }, "Delete");
    remove.addEventListener("click", () => this._delete(name, remove));
    return element("li", {}, recall, remove);
  }

  _store(event) {
    event.preventDefault();
    const name = this.name.value.trim();
    if (!name) {
      this.desk.complain(new Error("Give the scene a name first."));
      this.name.focus();
      return;
    }
    this._ask("store_scene", { name, stems: [...this.only] }, () => (this.name.value = ""));
  }

  _recall(name) {
    const fadeMs = Math.round(Number(this.fade.value.replace(",", ".")) * 1000);
    this._ask("recall_scene", { name, fade_ms: Number.isFinite(fadeMs) ? fadeMs : 0, stems: [...this.only] });
  }

  _delete(name, button) {
    if (!this.desk.mayAct("operator")) return;
    if (button.dataset.sure) {
      this._ask("delete_scene", { name });
      return;
    }
    button.dataset.sure = "asked";
    button.textContent = "Really?";
    button.setAttribute("aria-label", `Really delete ${name}?`);
    setTimeout(() => {
      delete button.dataset.sure;
      button.textContent = "Delete";
      button.setAttribute("aria-label", `Delete ${name}`);
    }, SURE_MS);
  }

  _ask(type, fields, done = () => {}) {
    if (!this.desk.mayAct("operator")) return;
    this.desk.request(type, fields).then(done, (error) => this.desk.complain(error));
  }
}
