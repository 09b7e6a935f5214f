// The browser mixer: one connection, and the controls that follow it.

import { Toggle } from "./buttons.js";
import { isLine, linePath } from "./chains.js";
import { Connection, RequestError } from "./connection.js";
import { element, setAttribute, setText } from "./dom.js";
import { pathName } from "./format.js";
import { buildSettings } from "./generated.js";
import { Events, Health } from "./health.js";
import { Learning } from "./learning.js";
import { MeterBank } from "./meters.js";
import { buildMixer } from "./mixer.js";
import { Rack } from "./rack.js";
import { Scenes } from "./scenes.js";
import { mayAct, stemsOf } from "./stems.js";
import { keepToken, takeToken } from "./token.js";

const METERS_HZ = 30;
const COUNTERS_HZ = 2;
const COMPLAINT_MS = 8000;
const STATE_TEXTS = {
  connecting: "connecting",
  connected: "connected",
  waiting: "no connection",
  refused: "not let in",
};

const at = (id) => document.getElementById(id);

/** The page. Controls call `set`, `maySet`, `learns` and `complain`. */
class Desk {
  constructor() {
    this.bank = new MeterBank();
    this.infos = new Map();
    this.controls = [];
    this.mixer = this.health = this.scenes = this.rack = null;
    this.view = { stem: "", open: {} };
    this.effectsEpoch = "";
    this.isAsking = this.mustAskAgain = false;
    this.counters = {};
    this.shape = "";
    this.complaint = null;
    this.events = new Events(at("events"));
    this.learning = new Learning(this, at("learning"));
    at("actions").append(this.learning.button);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.connection = new Connection(
      {
        makeSocket: () => new WebSocket(`${scheme}://${location.host}/`, "stemrack.v1"),
        timers: { setTimeout: (call, ms) => setTimeout(call, ms), clearTimeout: (id) => clearTimeout(id) },
        token: takeToken(),
        client: "browser mixer",
        subscribe: this._wanted(),
      },
      {
        state: (name, text, code) => this._showState(name, text, code),
        ready: () => this._begin(),
        values: (paths) => this._follow(paths),
        meters: (message) => this.bank.take(message),
        counters: (message) => this._count(message.values),
        event: (message) => this._happened(message),
      },
    );
    this._listen();
    this.connection.connect();
  }

  /** The values of the state. */
  get values() {
    return this.connection.mirror.values;
  }

  /** Send a value; returns a promise of the reply. */
  set(path, value) {
    return this.connection.request("set", { path, value });
  }

  /** Ask for anything; returns a promise of the reply. */
  request(type, fields) {
    return this.connection.request(type, fields);
  }

  /** Whether this page may act as a role now. */
  mayAct(role) {
    return this.connection.isReady && mayAct(this.connection.role, role);
  }

  /** Whether this page may set a parameter now. */
  maySet(path) {
    return this.mayAct(this.infos.get(path)?.role ?? "operator");
  }

  /** Whether a touch chose the parameter for MIDI. */
  learns(path) {
    return this.learning.takes(path);
  }

  /** Tell what went wrong, where screen readers hear it. */
  complain(error) {
    const where = error.path ? `${this.infos.has(error.path) ? pathName(error.path) : error.path}: ` : "";
    at("alert").replaceChildren(element("p", {}, `${where}${error.message}`));
    clearTimeout(this.complaint);
    this.complaint = setTimeout(() => at("alert").replaceChildren(), COMPLAINT_MS);
  }

  // -- connection -----------------------------------------------------------------------------------------

  _showState(name, text, code) {
    document.body.dataset.state = name;
    const said = STATE_TEXTS[name];
    const more = name === "waiting" ? `, trying again. ${text}` : "";
    at("connection").replaceChildren(element("span", {}, said, element("span", { class: "more" }, more)));
    at("connection").dataset.state = name;
    document.title = `${said} · stemrack`;
    at("entry").hidden = name !== "refused";
    at("entry-form").hidden = code !== 4004;
    at("entry-text").textContent = text;
    if (name === "refused" && code === 4004) at("token").focus();
    if (name !== "connected") this._enable();
  }

  _begin() {
    this.counters = {};
    this._describe();
  }

  /** Ask for the table, draw what it has, and ask again if the chains changed meanwhile. */
  async _describe() {
    this.mustAskAgain = this.isAsking;
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      const { epoch } = this.connection.mirror;
      const isNew = epoch !== this.effectsEpoch;
      const { parameters, effects = [] } = await this.connection.request("describe", isNew ? { effects: true } : {});
      this.infos = new Map(parameters.map((info) => [info.path, info]));
      this.effectsEpoch = epoch;
      this._build();
      this.rack.describe(isNew ? effects : null);
      this._show([...this.values.keys()]);
      this._enable();
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (this.connection.isReady) this.complain(error);
      this.mustAskAgain = false;
    } finally {
      this.isAsking = false;
    }
    if (this.mustAskAgain) this._describe();
  }

  _build() {
    const infos = [...this.infos.values()].filter((info) => !info.path.includes("/fx/"));
    const shape = JSON.stringify(infos);
    if (shape === this.shape) return;
    this.shape = shape;
    const stems = stemsOf(this.values.keys());
    const effects = [...(this.rack?.effects.values() ?? [])];
    const racked = stems.filter(({ name }) => this.values.has(linePath(name)));
    this.rack = new Rack(this, at("effects"), racked, this.view);
    this.rack.describe(effects);
    this.mixer = buildMixer(this, this.values, this.infos, this.rack.slots);
    at("strips").replaceChildren(...this.mixer.elements);
    at("strips").style.setProperty("--n", this.mixer.elements.length);
    this.bank.meters = this.mixer.meters;
    this.health = new Health(at("health"), this.mixer.input);
    this.scenes = new Scenes(this, at("scenes"), stems);
    const controls = [...this.mixer.controls];
    controls.push(...buildSettings(this, at("settings"), this.values, infos));
    const actions = [this.learning.button];
    if (this.infos.has("recording/active")) {
      const record = new Toggle(this, "recording/active", this.values.get("recording/active"), {
        text: "Record",
        label: "Record",
        className: "record",
      });
      controls.push(record);
      actions.unshift(record.element);
    }
    at("actions").replaceChildren(...actions);
    this.controls = controls;
  }

  _enable() {
    const role = this.connection.role;
    at("role").hidden = !(this.connection.isReady && role === "viewer");
    setText(at("role"), "view only");
    for (const control of this.controls) control.enable();
    this.rack?.enable();
    this.scenes?.enable();
    this.learning.enable();
  }

  // -- what the node tells --------------------------------------------------------------------------------

  _follow(paths) {
    if (!this.mixer) return;
    this._show(paths);
    if (paths.some(isLine)) this._describe(); // inserts came or went: the table is another one
  }

  _show(paths) {
    const touched = new Set(paths);
    for (const control of this.controls) {
      if (touched.has(control.path) && this.values.has(control.path)) control.follow(this.values.get(control.path));
    }
    this.rack.follow(touched);
    this.mixer.follow(this.values);
    this.scenes.follow(this.values.get("scenes") ?? "", this.values.get("presets") ?? "");
    const learning = this.values.get("midi/learning") ?? "";
    if (learning !== this.learning.path) {
      this.learning.follow(learning);
      for (const control of [...this.controls, ...this.rack.controls]) control.markLearning(learning);
    }
    this.health.show(this.values, this.counters);
  }

  _happened(event) {
    this.events.add(event);
    this.rack?.take(event);
    if (event.kind === "chain-refused" && this.mayAct("operator")) {
      this.complain(new Error(`The effects are back to what was heard last: ${event.facts.why}`));
    }
  }

  _count(values) {
    this.counters = values;
    this.health?.show(this.values, values);
  }

  // -- the browser ----------------------------------------------------------------------------------------

  _wanted() {
    return { meters_hz: document.hidden ? 0 : METERS_HZ, counters_hz: COUNTERS_HZ, events: true };
  }

  _listen() {
    document.addEventListener("visibilitychange", () => {
      this.connection.subscribe(this._wanted());
      if (!document.hidden) this.connection.hurry();
    });
    window.addEventListener("online", () => this.connection.hurry());
    window.addEventListener("hashchange", () => location.hash && this.connection.retryWith(takeToken()));
    at("entry-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = at("token").value.trim();
      at("token").value = "";
      keepToken(token);
      this.connection.retryWith(token);
    });
    setAttribute(at("strips"), "aria-busy", false);
  }
}

new Desk();
