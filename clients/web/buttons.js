// Switches, choices and texts of parameters.

import { Control } from "./control.js";
import { element, setAttribute } from "./dom.js";

/** A button that is pressed while its parameter is on. */
export class Toggle extends Control {
  constructor(desk, path, value, { text, label, className = "" }) {
    super(desk, path, value);
    this.element = element(
      "button",
      { type: "button", class: `toggle ${className}`, "aria-label": label, on: { click: () => this._click() } },
      element("span", { class: "lamp", "aria-hidden": "true" }),
      text,
    );
    this.render();
  }

  /** Show the value. */
  render() {
    setAttribute(this.element, "aria-pressed", this.linked.shown === true);
    this.element.classList.toggle("busy", this.linked.isWaiting);
  }

  _click() {
    if (this.desk.learns(this.path)) return;
    this.move(!(this.linked.shown === true));
  }
}

/** A choice that is sent as soon as it is made: for what is tried by ear. */
export class Choice extends Control {
  constructor(desk, info, value, { text, label }) {
    super(desk, info.path, value);
    const id = `choice-${info.path.replaceAll("/", "-")}`;
    this.input = choice(id, info.choices ?? []);
    this.input.setAttribute("aria-label", label);
    this.input.addEventListener("change", () => this._choose());
    this.input.addEventListener("pointerdown", (event) => desk.learns(this.path) && event.preventDefault());
    this.element = element("div", { class: "field" }, element("label", { for: id }, text), this.input);
    this.render();
  }

  get target() {
    return this.input;
  }

  /** Show the value. */
  render() {
    showChoice(this.input, String(this.linked.shown ?? ""));
    this.input.disabled = !this.isEnabled;
  }

  _choose() {
    this.move(this.input.value);
    this.render();
  }
}

/** A choice or a text; what was chosen is sent by its own button: moving through a list changes nothing. */
export class Field extends Control {
  constructor(desk, info, value, { text, label }) {
    super(desk, info.path, value);
    const id = `field-${info.path.replaceAll("/", "-")}`;
    this.input = info.kind === "choice" ? choice(id, info.choices ?? []) : entry(id, info);
    this.input.setAttribute("aria-label", label);
    this.isNumber = info.kind === "number";
    this.button = element(
      "button",
      { type: "button", "aria-label": `Set ${label}`, on: { click: () => this._commit() } },
      "Set",
    );
    this.input.addEventListener("input", () => this.render());
    this.input.addEventListener("keydown", (event) => event.key === "Enter" && this._commit());
    this.element = element(
      "div",
      { class: "field" },
      element("label", { for: id }, text),
      element("div", { class: "row" }, this.input, this.button),
    );
    this.written = null;
    this.render();
  }

  get target() {
    return this.input;
  }

  /** Show the value, unless another one is being chosen. */
  render() {
    const value = String(this.linked.shown ?? "");
    if (this.written !== value) {
      this.written = value;
      if (this.input.tagName === "SELECT") showChoice(this.input, value);
      else this.input.value = value;
    }
    const canSet = this.isEnabled && this.input.value !== value && !this.linked.isWaiting;
    setAttribute(this.button, "aria-disabled", !canSet);
    this.input.disabled = !this.isEnabled;
  }

  _commit() {
    if (!this.isEnabled || this.input.value === this.written) return;
    const value = this.isNumber ? Number(this.input.value.replace(",", ".")) : this.input.value;
    if (this.isNumber && !Number.isFinite(value)) {
      this.desk.complain(new Error(`'${this.input.value}' is no number.`));
      return;
    }
    this.move(value);
    this.written = null;
    this.render();
  }
}

function choice(id, choices) {
  return element("select", { id }, ...choices.map((name) => element("option", { value: name }, name)));
}

function showChoice(input, value) {
  if (![...input.options].some((option) => option.value === value)) {
    input.prepend(element("option", { value }, value || "\u2013"));
  }
  input.value = value;
}

function entry(id, info) {
  return element("input", { id, type: "text", inputmode: info.kind === "number" ? "decimal" : null });
}
