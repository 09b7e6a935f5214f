// The menu of effects that can be put into a chain: by group, or found by a word.

import { groupsOf, matching } from "./chains.js";
import { element, setAttribute, setText } from "./dom.js";

/** Button and menu. choose(key): puts an effect in. */
export class Picker {
  constructor(choose) {
    this.choose = choose;
    this.effects = [];
    this.isEnabled = false;
    this.button = element(
      "button",
      { type: "button", class: "add", "aria-expanded": "false", "aria-controls": "picker-menu" },
      "Add effect",
    );
    this.button.addEventListener("click", () => this.isEnabled && this.turn(this.menu.hidden));
    this.search = element("input", {
      id: "picker-search",
      type: "search",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => this._find() },
    });
    this.found = element("p", { class: "note", role: "status" });
    this.list = element("div", { class: "choices" });
    this.menu = element(
      "div",
      { id: "picker-menu", class: "picker-menu", role: "group", "aria-label": "Effects to add", hidden: true },
      element("label", { for: "picker-search" }, "Find an effect"),
      element("div", { class: "row" }, this.search, this.found),
      this.list,
    );
    this.element = element("div", { class: "picker", on: { keydown: (event) => this._key(event) } }, this.button);
    this.element.append(this.menu);
  }

  /** Take the effects there are. */
  offer(effects) {
    this.effects = effects;
    this._find();
  }

  /** Whether one may be added now; why not. */
  enable(isEnabled, why = "") {
    this.isEnabled = isEnabled;
    setAttribute(this.button, "aria-disabled", !isEnabled);
    setText(this.button, isEnabled || !why ? "Add effect" : why);
    if (!isEnabled) this.turn(false);
  }

  /** Open or close the menu. */
  turn(isOpen) {
    if (this.menu.hidden === !isOpen) return;
    const hadFocus = this.menu.contains(document.activeElement);
    this.menu.hidden = !isOpen;
    setAttribute(this.button, "aria-expanded", isOpen);
    if (isOpen) {
      this.search.value = "";
      this._find();
      this.menu.scrollIntoView({ block: "nearest" });
      const isFinger = matchMedia("(pointer: coarse)").matches; // its keyboard would cover the list
      (isFinger ? this.list.querySelector("button") : this.search)?.focus();
    } else if (hadFocus) this.button.focus();
  }

  _find() {
    const found = matching(this.effects, this.search.value);
    const rows = groupsOf(found).map(([title, effects]) =>
      element(
        "div",
        { class: "choice-group", role: "group", "aria-label": title },
        element("h3", {}, title),
        ...effects.map((effect) => this._choice(effect)),
      ),
    );
    this.list.replaceChildren(...rows);
    setText(this.found, this.search.value.trim() ? `${found.length} found` : "");
  }

  _choice({ key, title, doc }) {
    const attributes = { type: "button", class: "choice", "data-key": key };
    const made = element("button", attributes, element("span", { class: "choice-title" }, title));
    made.append(" ", element("span", { class: "note" }, doc));
    made.addEventListener("click", () => this._take(key));
    return made;
  }

  _take(key) {
    this.turn(false);
    this.choose(key);
  }

  _key(event) {
    if (this.menu.hidden) return;
    const choices = [...this.list.querySelectorAll("button")];
    const at = choices.indexOf(document.activeElement);
    const isSearch = document.activeElement === this.search;
    if (event.key === "Escape") this.turn(false);
    else if (event.key === "Enter" && isSearch && choices.length) this._take(choices[0].dataset.key);
    else if (event.key === "ArrowDown" && (isSearch || at >= 0)) choices[Math.min(at + 1, choices.length - 1)]?.focus();
    else if (event.key === "ArrowUp" && at >= 0) (choices[at - 1] ?? this.search).focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
