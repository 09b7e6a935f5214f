// One connection to the node that mends itself. Socket, timers and clock are given: no DOM.

import { GapError, Mirror } from "./mirror.js";

export const SUBPROTOCOL = "stemrack.v1";
export const VERSIONS = [1, 1];
export const PING_EVERY_MS = 5000;
export const PONG_LIMIT_MS = 3000;
export const LONGEST_PAUSE_S = 5;

/** Close codes after which the same attempt would fail again, and what a person can do. */
export const NO_RETRY = {
  4003: "This page and the node speak different versions of the protocol: reload the page.",
  4004: "The token is missing or wrong. Open the address that the node printed, or enter its token here.",
};

/** Close codes that are worth a word. */
const SAID = {
  4001: "The node waited for this page's first word in vain.",
  4002: "The node did not understand this page: reload it.",
  4005: "This page read too slowly.",
  4006: "The node has as many clients as it takes.",
  4008: "This page asked too often.",
  4010: "The node has stopped.",
};

/** Pause before attempt n (from 1), in seconds. */
export function pauseS(n) {
  return Math.min(n, LONGEST_PAUSE_S);
}

/**
 * Connects, identifies, resumes, pings, and tries again.
 *
 * options: makeSocket(), timers {setTimeout, clearTimeout}, token, client, subscribe.
 * on: state(name, text), values(paths), ready(), meters(m), counters(m), event(m).
 * States: connecting, connected, waiting (for the next attempt), refused.
 */
export class Connection {
  constructor(options, on) {
    this.options = options;
    this.on = on;
    this.mirror = new Mirror();
    this.state = "connecting";
    this.role = this.clientId = this.server = "";
    this.token = options.token;
    this.subscriptions = options.subscribe;
    this._socket = null;
    this._asked = new Map();
    this._nextId = 1;
    this._nTries = 0;
    this._readyFrom = Infinity;
    this._retry = this._ping = this._late = null;
  }

  /** Whether requests can be made. */
  get isReady() {
    return this.state === "connected";
  }

  /** Connect now, whatever was waited for. */
  connect() {
    this._drop();
    this._say("connecting", "");
    let socket;
    try {
      socket = this.options.makeSocket();
    } catch (error) {
      this._lost(0, `${error.message}`);
      return;
    }
    this._socket = socket;
    socket.onmessage = (event) => this._receive(event.data);
    socket.onclose = (event) => this._lost(event.code, event.reason);
    socket.onerror = () => {};
    this._late = this.options.timers.setTimeout(() => this._lost(0, "no answer"), PING_EVERY_MS + PONG_LIMIT_MS);
  }

  /** Use another token, and connect anew. */
  retryWith(token) {
    this.token = token;
    this._nTries = 0;
    this.connect();
  }

  /** The page is seen again, or the network is back: do not wait. */
  hurry() {
    if (this.state === "waiting") this.connect();
    else if (this.state === "connected") this._sendPing();
  }

  /** Ask for something; returns a promise of the reply, which fails with the node's error. */
  request(type, fields = {}) {
    return new Promise((resolve, reject) => {
      if (!this.isReady) {
        reject(new RequestError("There is no connection to the node."));
        return;
      }
      const id = this._nextId++;
      this._asked.set(id, { resolve, reject });
      this._send({ type, id, ...fields });
    });
  }

  /** Change what is wanted beside the state. */
  subscribe(wanted) {
    this.subscriptions = wanted;
    if (this.isReady) this.request("subscribe", { subscribe: wanted }).catch(() => {});
  }

  _send(message) {
    this._socket.send(JSON.stringify(message));
  }

  _receive(text) {
    const message = JSON.parse(text);
    const take = {
      hello: () => this._greet(message),
      welcome: () => this._welcome(message),
      snapshot: () => this._changed(this.mirror.replace(message)),
      deltas: () => this._changed(this._followed(message)),
      reply: () => this._answered(message.id, message),
      described: () => this._answered(message.id, message),
      error: () => this._refused(message),
      meters: () => this.on.meters(message),
      counters: () => this.on.counters(message),
      event: () => this.on.event(message),
    }[message.type];
    if (take) take();
  }

  _greet(hello) {
    this.server = hello.server;
    const resume = this.mirror.resume;
    this._send({
      type: "identify",
      versions: VERSIONS,
      client: this.options.client,
      token: this.token,
      subscribe: this.subscriptions,
      ...(resume ? { resume } : {}),
    });
  }

  _welcome(welcome) {
    this.role = welcome.role;
    this.clientId = welcome.client_id;
    this._readyFrom = welcome.revision;
    if (!welcome.resumed) this.mirror.forget();
    this._changed([]);
  }

  _followed(message) {
    try {
      return this.mirror.follow(message);
    } catch (error) {
      if (!(error instanceof GapError)) throw error;
      this.mirror.forget();
      this._lost(0, "a change was lost");
      return [];
    }
  }

  _changed(paths) {
    if (!this._socket) return;
    const isComplete = this.mirror.epoch && this.mirror.revision >= this._readyFrom;
    if (isComplete && this.state !== "connected") {
      this._nTries = 0;
      this._clear("_late");
      this._say("connected", "");
      this._ping = this.options.timers.setTimeout(() => this._sendPing(), PING_EVERY_MS);
      this.on.ready();
    }
    if (isComplete && paths.length) this.on.values(paths);
  }

  _answered(id, message) {
    const asked = this._asked.get(id);
    this._asked.delete(id);
    if (asked) asked.resolve(message);
  }

  _refused(error) {
    const asked = this._asked.get(error.id);
    this._asked.delete(error.id);
    if (asked) asked.reject(new RequestError(error.message, error.code, error.path));
  }

  _sendPing() {
    this._clear("_ping");
    if (this._late) return;
    this._late = this.options.timers.setTimeout(() => this._lost(0, "no answer"), PONG_LIMIT_MS);
    const answered = () => {
      this._clear("_late");
      this._ping = this.options.timers.setTimeout(() => this._sendPing(), PING_EVERY_MS);
    };
    this.request("ping").then(answered, () => {});
  }

  _lost(code, reason) {
    this._drop();
    if (NO_RETRY[code]) {
      this._say("refused", NO_RETRY[code], code);
      return;
    }
    this._nTries += 1;
    const seconds = pauseS(this._nTries);
    this._say("waiting", SAID[code] ?? "", code);
    this._retry = this.options.timers.setTimeout(() => this.connect(), seconds * 1000);
  }

  _drop() {
    for (const name of ["_retry", "_ping", "_late"]) this._clear(name);
    const socket = this._socket;
    this._socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this._readyFrom = Infinity;
    const asked = [...this._asked.values()];
    this._asked.clear();
    this.state = "closed";
    for (const { reject } of asked) reject(new RequestError("The connection broke before the node answered."));
  }

  _say(state, text, code = 0) {
    this.state = state;
    this.on.state(state, text, code);
  }

  _clear(name) {
    if (this[name] !== null) this.options.timers.clearTimeout(this[name]);
    this[name] = null;
  }
}

/** What the node refused: its words, code and the field or parameter. */
export class RequestError extends Error {
  constructor(message, code = 0, path = "") {
    super(message);
    this.code = code;
    this.path = path;
  }
}
