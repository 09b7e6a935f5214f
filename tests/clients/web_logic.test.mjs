// The browser mixer's logic, without a browser: run by `node --test`.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import * as chains from "../../clients/web/chains.js";
import { Connection, PING_EVERY_MS, PONG_LIMIT_MS, pauseS } from "../../clients/web/connection.js";
import { healthOf } from "../../clients/web/facts.js";
import * as format from "../../clients/web/format.js";
import * as law from "../../clients/web/law.js";
import { Linked } from "../../clients/web/linked.js";
import { GapError, Mirror } from "../../clients/web/mirror.js";
import { CLIP_SHOWN_S, FALL_DB_PER_S, Peak } from "../../clients/web/peaks.js";
import { roundStep, scaleOf } from "../../clients/web/scales.js";
import { mayAct, settingsOf, stemsOf } from "../../clients/web/stems.js";
import { tokenOf } from "../../clients/web/token.js";

// -- fader law ----------------------------------------------------------------------------------------------

test("the law passes through its marks and back", () => {
  for (const [gainDb, height] of law.FADER_MARKS) {
    assert.equal(law.heightOfDb(gainDb), height);
    assert.equal(law.dbOfHeight(height), gainDb);
  }
  assert.equal(law.heightOfDb(0), 0.75);
  assert.equal(law.heightOfDb(-9), 0.5625);
});

test("the law rises, and every tenth of a dB has its own height", () => {
  for (let tenth = -1199; tenth <= 120; tenth++) {
    const gainDb = tenth / 10;
    assert.ok(law.heightOfDb(gainDb) > law.heightOfDb((tenth - 1) / 10));
    assert.equal(law.dbOfHeight(law.heightOfDb(gainDb)), gainDb);
  }
});

test("the law keeps within its ends", () => {
  assert.equal(law.heightOfDb(20), 1);
  assert.equal(law.heightOfDb(-Infinity), 0);
  assert.equal(law.dbOfHeight(-0.5), -120);
  assert.equal(law.dbOfHeight(1.5), 12);
  assert.equal(law.meterHeight(-200), 0);
  assert.equal(law.meterHeight(3), 1);
  assert.equal(law.meterHeight(NaN), 0);
});

test("keys step as a slider's do", () => {
  const after = (key, value, shift = false) => law.valueAfterKey(key, shift, value, law.FADER_STEPS);
  assert.equal(after("ArrowUp", 0), 1);
  assert.equal(after("ArrowLeft", 0), -1);
  assert.equal(after("ArrowDown", 0.1, true), 0);
  assert.equal(after("ArrowUp", -0.3, true), -0.2);
  assert.equal(after("PageUp", 0), 6);
  assert.equal(after("PageUp", 9), 12);
  assert.equal(after("PageDown", -118), -120);
  assert.equal(after("Home", 3), -120);
  assert.equal(after("End", 3), 12);
  assert.equal(after("0", 3), 0);
  assert.equal(after("Tab", 3), null);
  assert.equal(law.valueAfterKey("ArrowRight", false, 0.3, law.PAN_STEPS), 0.35);
  assert.equal(law.valueAfterKey("ArrowLeft", true, -0.995, law.PAN_STEPS), -1);
});

test("generated scales are linear, or by ratio where the table says so", () => {
  const percent = scaleOf({ lowest: 0, highest: 100, step: 1, default: 20 });
  assert.equal(percent.toHeight(25), 0.25);
  assert.equal(percent.ofHeight(0.256), 25.6);
  assert.deepEqual(percent.steps, { small: 0.1, normal: 1, page: 10, lowest: 0, highest: 100, home: 20 });
  const pitch = scaleOf({ lowest: 20, highest: 20000, is_log: true });
  assert.ok(Math.abs(pitch.toHeight(632.4555) - 0.5) < 1e-6);
  assert.equal(pitch.ofHeight(0), 20);
  assert.equal(pitch.ofHeight(1), 20000);
  assert.equal(pitch.steps.home, 20);
  assert.equal(scaleOf({ lowest: 20, highest: 20000 }).toHeight(10010), 0.5);
  assert.equal(scaleOf({ lowest: 0, highest: 20000, is_log: true }).toHeight(10000), 0.5);
  assert.equal(scaleOf({ lowest: -1, highest: 1 }).toHeight(-5), 0);
  assert.deepEqual([0.3, 1, 0.095, 0.6, 200].map(roundStep), [0.2, 1, 0.05, 0.5, 200]);
});

test("keys move by ratio where the scale does, and never stick", () => {
  const { steps } = scaleOf({ lowest: 20, highest: 20000, default: 100, is_log: true });
  const after = (key, value, shift = false) => law.valueAfterKey(key, shift, value, steps);
  assert.equal(after("ArrowUp", 100), 107.2);
  assert.equal(after("ArrowDown", 107.2), 100);
  assert.equal(after("PageUp", 1000), 1995);
  assert.equal(after("ArrowUp", 19999), 20000);
  assert.equal(after("Home", 100), 20);
  assert.equal(after("0", 500), 100);
  for (const [lowest, highest] of [[20, 20000], [0.1, 10], [0.05, 20], [5, 2000]]) {
    const scale = scaleOf({ lowest, highest, is_log: true });
    for (let value = lowest, last = 0; value < highest; value = last) {
      last = law.valueAfterKey("ArrowUp", true, value, scale.steps);
      assert.ok(last > value, `${value}`);
    }
  }
});

// -- texts --------------------------------------------------------------------------------------------------

test("values are said and shown", () => {
  assert.equal(format.dbText(-6), "-6.0 dB");
  assert.equal(format.dbText(-0.04), "0.0 dB");
  assert.equal(format.dbText(-120), "silent");
  assert.equal(format.dbShown(-6), "\u22126.0");
  assert.equal(format.dbShown(1.5), "+1.5");
  assert.equal(format.dbShown(0), "0.0");
  assert.equal(format.dbShown(-120), "off");
  assert.equal(format.panText(0), "centre");
  assert.equal(format.panText(-0.3), "30 % left");
  assert.equal(format.panShown(1), "R 100");
  assert.equal(format.levelText(-12.4), "-12 dB");
  assert.equal(format.levelText(-0.2), "0 dB");
  assert.equal(format.levelText(-Infinity), "silent");
  assert.equal(format.numberText(58.04, "ms"), "58.0 ms");
  assert.equal(format.numberText(0.25), "0.25");
  assert.equal(format.numberText(440.2, "Hz"), "440 Hz");
  assert.equal(format.rateText(44100), "44.1 kHz");
});

test("paths have names for people", () => {
  assert.equal(format.pathName("stem/vocals/gain_db"), "vocals fader");
  assert.equal(format.pathName("master/gain_db"), "master fader");
  assert.equal(format.pathName("master/ceiling_db"), "master ceiling");
  assert.equal(format.pathName("stem/vocals/fx/low_cut-2/cutoff_hz"), "vocals low cut-2 cutoff");
  assert.equal(format.pathName("stem/vocals/fx/gain/gain_db"), "vocals gain gain");
  assert.equal(format.pathName("stem/bass/fx/reverb/dry_wet"), "bass reverb dry/wet");
  assert.equal(format.pathName("stem/bass/chain"), "bass chain");
  assert.equal(format.pathName("device/output"), "device output");
});

test("parameters are told in percent, kHz and their units", () => {
  const share = { lowest: 0, highest: 1 };
  assert.equal(format.parameterText(0.5, share), "50 %");
  assert.equal(format.parameterText(0.125, share), "12.5 %");
  assert.equal(format.parameterText(0.5, { lowest: 0.1, highest: 10 }), "0.50");
  assert.equal(format.parameterText(2500, { unit: "Hz", lowest: 20, highest: 20000 }), "2.5 kHz");
  assert.equal(format.parameterText(107.2, { unit: "Hz", lowest: 20, highest: 20000 }), "107 Hz");
  assert.equal(format.parameterText(-18, { unit: "dB", lowest: -60, highest: 0 }), "-18 dB");
});

test("events are told with their facts", () => {
  assert.equal(format.eventText({ kind: "worker-died", facts: { exit_code: -9 } }), "worker died (exit code -9)");
  assert.equal(format.eventText({ kind: "clip" }), "clip");
  assert.match(format.clockText(1700000000), /^\d\d:\d\d:\d\d$/);
});

// -- meters -------------------------------------------------------------------------------------------------

test("a bar rises at once and falls 20 dB in 1.7 s; the mark waits a second first", () => {
  const peak = new Peak();
  peak.take(-10, -20, 5);
  assert.equal(peak.barDb, -10);
  peak.fall(5.85);
  assert.ok(Math.abs(peak.barDb + 20) < 1e-9);
  assert.equal(peak.holdDb, -10);
  peak.fall(6);
  assert.equal(peak.holdDb, -10);
  peak.fall(7.7);
  assert.ok(Math.abs(peak.holdDb + 30) < 1e-9);
  peak.take(-15, -20, 7.7);
  assert.deepEqual([peak.barDb, peak.holdDb], [-15, -15]);
  assert.ok(Math.abs(FALL_DB_PER_S * 1.7 - 20) < 1e-12);
});

test("the fall does not depend on how often it is drawn", () => {
  const [often, once] = [new Peak(), new Peak()];
  for (const peak of [often, once]) peak.take(0, -3, 0);
  for (let i = 1; i <= 300; i++) often.fall(i / 100);
  once.fall(3);
  assert.ok(Math.abs(often.barDb - once.barDb) < 1e-9);
  assert.ok(Math.abs(often.holdDb - once.holdDb) < 1e-9);
});

test("full scale is marked for a while; loss forgets the RMS", () => {
  const peak = new Peak();
  peak.take(-0.1, -9, 1);
  assert.equal(peak.hasClipped(1), false);
  peak.take(0, -9, 2);
  assert.equal(peak.hasClipped(2 + CLIP_SHOWN_S - 0.01), true);
  assert.equal(peak.hasClipped(2 + CLIP_SHOWN_S), false);
  peak.lose();
  assert.equal(peak.rmsDb, -Infinity);
});

// -- one message in flight ----------------------------------------------------------------------------------

test("there is one message in flight, then the latest value", () => {
  const sent = [];
  const linked = new Linked(0, (value) => sent.push(value));
  linked.hold();
  for (const value of [-1, -2, -3, -4]) linked.move(value);
  assert.deepEqual(sent, [-1]);
  linked.settle();
  assert.deepEqual(sent, [-1, -4]);
  linked.settle();
  assert.deepEqual(sent, [-1, -4]);
  linked.move(-4);
  assert.deepEqual(sent, [-1, -4]);
});

test("others' moves wait while it is held and until the reply has come", () => {
  const linked = new Linked(0, () => {});
  linked.hold();
  linked.follow(-20);
  assert.equal(linked.shown, 0);
  linked.move(-3);
  linked.release();
  assert.equal(linked.shown, -3);
  linked.follow(-30);
  assert.equal(linked.shown, -3);
  linked.settle();
  assert.equal(linked.shown, -30);
  linked.follow(-6);
  assert.equal(linked.shown, -6);
});

test("a refused move shows the node's value again", () => {
  const linked = new Linked(false, () => {});
  linked.move(true);
  assert.equal(linked.shown, true);
  linked.settle();
  assert.equal(linked.shown, false);
});

test("after a break nothing old is sent", () => {
  const sent = [];
  const linked = new Linked(0, (value) => sent.push(value));
  linked.move(1);
  linked.move(2);
  linked.reset();
  assert.equal(linked.shown, 0);
  linked.move(5);
  linked.settle();
  assert.deepEqual(sent, [1, 5]);
});

// -- mirror -------------------------------------------------------------------------------------------------

test("the mirror follows in order and tells what moved", () => {
  const mirror = new Mirror();
  assert.equal(mirror.resume, null);
  assert.deepEqual(mirror.replace({ epoch: "e1", revision: 3, values: { a: 1, b: 2 } }), ["a", "b"]);
  const changes = [
    { revision: 4, origin: "c1", values: { a: 5 } },
    { revision: 5, origin: "c2", values: { b: null, c: true } },
  ];
  assert.deepEqual(mirror.follow({ changes }), ["a", "b", "c"]);
  assert.deepEqual([...mirror.values], [["a", 5], ["c", true]]);
  assert.deepEqual(mirror.resume, { epoch: "e1", revision: 5 });
  assert.throws(() => mirror.follow({ changes: [{ revision: 7, values: {} }] }), GapError);
  assert.deepEqual(mirror.replace({ epoch: "e2", revision: 0, values: { a: 5 } }), ["c"]);
  mirror.forget();
  assert.equal(mirror.resume, null);
});

// -- connection ---------------------------------------------------------------------------------------------

function rig() {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  const sockets = [];
  const told = [];
  const makeSocket = () => {
    const socket = { sent: [], isClosed: false };
    socket.send = (text) => socket.sent.push(JSON.parse(text));
    socket.close = () => (socket.isClosed = true);
    socket.say = (message) => socket.onmessage({ data: JSON.stringify(message) });
    sockets.push(socket);
    return socket;
  };
  const timers = { setTimeout: (call, ms) => setTimeout(call, ms), clearTimeout: (id) => clearTimeout(id) };
  const on = {
    state: (name, text) => told.push(text ? `${name}: ${text}` : name),
    ready: () => told.push("ready"),
    values: (paths) => told.push(`values ${paths}`),
    meters: () => told.push("meters"),
    counters: () => told.push("counters"),
    event: () => told.push("event"),
  };
  const options = { makeSocket, timers, token: "t", client: "test", subscribe: { meters_hz: 30 } };
  const connection = new Connection(options, on);
  connection.connect();
  return { connection, sockets, told, last: () => sockets.at(-1) };
}

function welcome(socket, { revision = 0, resumed = false, epoch = "e1", values = { a: 1 } } = {}) {
  socket.say({ type: "hello", server: "s", versions: [1, 1], epoch, token: true });
  socket.say({ type: "welcome", version: 1, client_id: "c1", role: "operator", revision, resumed });
  if (!resumed) socket.say({ type: "snapshot", epoch, revision, values });
}

test("identifies, takes the snapshot, is ready", () => {
  const { connection, told, last } = rig();
  welcome(last());
  assert.deepEqual(told, ["connecting", "connected", "ready", "values a"]);
  assert.deepEqual(last().sent, [
    { type: "identify", versions: [1, 1], client: "test", token: "t", subscribe: { meters_hz: 30 } },
  ]);
  assert.equal(connection.role, "operator");
});

test("replies and refusals reach who asked; the others go on waiting", async () => {
  const { connection, last } = rig();
  welcome(last());
  const [one, two] = [connection.request("set", { path: "a", value: 2 }), connection.request("set", { path: "b" })];
  const [first, second] = last().sent.slice(-2);
  last().say({ type: "error", id: second.id, code: 300, name: "unknown_path", path: "b", message: "none" });
  await assert.rejects(two, { message: "none", code: 300, path: "b" });
  last().say({ type: "reply", id: first.id, revision: 1, values: { a: 2 } });
  assert.deepEqual((await one).values, { a: 2 });
});

test("resumes from its revision, and is ready only when it has caught up", () => {
  const { connection, told, sockets, last } = rig();
  welcome(last(), { revision: 4 });
  last().onclose({ code: 1006, reason: "" });
  mock.timers.tick(1000);
  assert.equal(sockets.length, 2);
  told.length = 0;
  welcome(last(), { revision: 6, resumed: true });
  assert.deepEqual(last().sent[0].resume, { epoch: "e1", revision: 4 });
  assert.equal(connection.isReady, false);
  last().say({ type: "deltas", changes: [{ revision: 5, origin: "c9", values: { a: 7 } }] });
  assert.deepEqual(told, []);
  last().say({ type: "deltas", changes: [{ revision: 6, origin: "c9", values: { b: 8 } }] });
  assert.deepEqual(told, ["connected", "ready", "values b"]);
  assert.equal(connection.mirror.values.get("a"), 7);
});

test("a lost change brings a snapshot", () => {
  const { told, sockets, last } = rig();
  welcome(last());
  last().say({ type: "deltas", changes: [{ revision: 2, origin: "c9", values: { a: 7 } }] });
  assert.equal(told.at(-1), "waiting");
  assert.ok(sockets[0].isClosed);
  mock.timers.tick(1000);
  last().say({ type: "hello", server: "s", versions: [1, 1], epoch: "e1", token: true });
  assert.equal(last().sent[0].resume, undefined);
});

test("waits 1, 2, 3, 4, 5, 5 seconds, and begins anew after it was connected", () => {
  const { sockets, last } = rig();
  for (const seconds of [1, 2, 3, 4, 5, 5]) {
    const n = sockets.length;
    last().onclose({ code: 1006, reason: "" });
    mock.timers.tick(seconds * 1000 - 1);
    assert.equal(sockets.length, n);
    mock.timers.tick(1);
    assert.equal(sockets.length, n + 1);
  }
  welcome(last());
  last().onclose({ code: 4010, reason: "" });
  const n = sockets.length;
  mock.timers.tick(1000);
  assert.equal(sockets.length, n + 1);
  assert.equal(pauseS(7), 5);
});

test("does not try again where it would fail again, but with another token", () => {
  for (const code of [4003, 4004]) {
    const { connection, told, sockets, last } = rig();
    last().onclose({ code, reason: "" });
    mock.timers.tick(60_000);
    assert.equal(sockets.length, 1);
    assert.match(told.at(-1), code === 4003 ? /^refused: .*reload the page/ : /^refused: .*token/);
    connection.hurry();
    assert.equal(sockets.length, 1);
    connection.retryWith("new");
    last().say({ type: "hello", server: "s", versions: [1, 1], epoch: "e1", token: true });
    assert.equal(last().sent[0].token, "new");
  }
});

test("pings every 5 s; without an answer for 3 s it connects anew", async () => {
  const { told, sockets, last } = rig();
  welcome(last());
  mock.timers.tick(PING_EVERY_MS);
  const ping = last().sent.at(-1);
  assert.equal(ping.type, "ping");
  last().say({ type: "reply", id: ping.id, revision: 0 });
  await Promise.resolve();
  mock.timers.tick(PONG_LIMIT_MS);
  assert.equal(told.at(-1), "values a");
  mock.timers.tick(PING_EVERY_MS - PONG_LIMIT_MS);
  assert.equal(last().sent.at(-1).type, "ping");
  mock.timers.tick(PONG_LIMIT_MS);
  assert.equal(told.at(-1), "waiting");
  assert.ok(last().isClosed);
  mock.timers.tick(1000);
  assert.equal(sockets.length, 2);
});

test("a request dies with its connection, and none can be made without one", async () => {
  const { connection, last } = rig();
  await assert.rejects(connection.request("ping"), /no connection/);
  welcome(last());
  const asked = connection.request("set", { path: "a", value: 1 });
  last().onclose({ code: 1006, reason: "" });
  await assert.rejects(asked, /broke before the node answered/);
});

test("a socket that never says hello is given up", () => {
  const { told, sockets, last } = rig();
  mock.timers.tick(PING_EVERY_MS + PONG_LIMIT_MS);
  assert.equal(told.at(-1), "waiting");
  assert.ok(last().isClosed);
  mock.timers.tick(1000);
  assert.equal(sockets.length, 2);
});

test("coming back to the page does not wait", () => {
  const { connection, sockets, last } = rig();
  welcome(last());
  connection.hurry();
  assert.equal(last().sent.at(-1).type, "ping");
  last().onclose({ code: 1006, reason: "" });
  connection.hurry();
  assert.equal(sockets.length, 2);
  mock.timers.tick(1000);
  assert.equal(sockets.length, 2);
});

test("messages it does not know are passed over", () => {
  const { told, last } = rig();
  welcome(last());
  const n = told.length;
  last().say({ type: "from-a-later-version" });
  last().say({ type: "meters", position: 1, levels: {} });
  last().say({ type: "counters", values: {} });
  last().say({ type: "event", kind: "clip", time_s: 1, facts: {} });
  assert.deepEqual(told.slice(n), ["meters", "counters", "event"]);
});

// -- what is drawn ------------------------------------------------------------------------------------------

test("stems come in the order and colours of the stem format, strangers last", () => {
  const paths = ["vocals", "piano", "drums", "bass", "other"].map((s) => `stem/${s}/gain_db`);
  assert.deepEqual(
    stemsOf([...paths, "stem/drums/mute", "master/gain_db"]).map((s) => `${s.name} ${s.colour}`),
    ["drums #009E73", "bass #D55E00", "other #CC79A7", "vocals #56B4E9", "piano #c8ced6"],
  );
});

test("settings are what nothing else draws", () => {
  const infos = [
    { path: "stem/vocals/gain_db" },
    { path: "stem/vocals/chain" },
    { path: "stem/vocals/fx/reverb/wet" },
    { path: "recording/active" },
    { path: "device/output", role: "admin" },
    { path: "engine/state", role: "" },
  ];
  assert.deepEqual(settingsOf(infos).map((info) => info.path), ["device/output"]);
});

test("roles may do what those below them may", () => {
  assert.equal(mayAct("operator", "operator"), true);
  assert.equal(mayAct("admin", "operator"), true);
  assert.equal(mayAct("viewer", "operator"), false);
  assert.equal(mayAct("operator", "admin"), false);
  assert.equal(mayAct("admin", ""), false);
  assert.equal(mayAct("", "viewer"), false);
});

test("health names what is known, and what is bad", () => {
  const values = new Map([["engine/state", "wet"], ["engine/latency_ms", 58.04], ["engine/rate_hz", 48000]]);
  const texts = (counters) => healthOf(values, counters, format).map((f) => `${f.name} ${f.text} ${f.mood}`.trim());
  assert.deepEqual(texts({ late_hops: 2, xruns: 0, is_dry: 0 }), [
    "Sound stems good",
    "Latency 58.0 ms",
    "Rate 48 kHz",
    "Late hops 2 fair",
    "Xruns 0 good",
  ]);
  assert.equal(texts({ is_dry: 1 })[0], "Sound DRY: the mixture bad");
  assert.deepEqual(healthOf(new Map(), {}, format), []);
});

test("the token stands in the fragment", () => {
  assert.equal(tokenOf("#token=a-b_c"), "a-b_c");
  assert.equal(tokenOf("#other"), null);
  assert.equal(tokenOf(""), null);
});

// -- chains -------------------------------------------------------------------------------------------------

const EFFECTS = new Map(
  [
    ["reverb", "Reverb", "A room."],
    ["highpass_filter", "High-pass", "Takes the low end away."],
    ["comb-3", "Comb three", "A plugin."],
  ].map(([key, title, doc]) => [key, { key, title, doc }]),
);

test("a chain's line is names with a space between", () => {
  assert.deepEqual(chains.namesOf("reverb  highpass_filter"), ["reverb", "highpass_filter"]);
  assert.deepEqual(chains.namesOf(""), []);
  assert.deepEqual(chains.namesOf(undefined), []);
  assert.ok(chains.isLine(chains.linePath("bass")));
  assert.ok(!chains.isLine("stem/bass/fx/chain/bypass"));
});

test("inserts are called after their effect, copies by their number", () => {
  assert.equal(chains.titleOf("reverb", EFFECTS), "Reverb");
  assert.equal(chains.titleOf("reverb-2", EFFECTS), "Reverb 2");
  assert.equal(chains.titleOf("comb-3", EFFECTS), "Comb three");
  assert.equal(chains.titleOf("comb-3-2", EFFECTS), "Comb three 2");
  assert.equal(chains.titleOf("gone_plugin", EFFECTS), "gone plugin");
  assert.deepEqual(chains.partsOf("reverb-1", EFFECTS), { key: "reverb-1", number: 1 });
});

test("one more insert gets the first free name", () => {
  const free = (names, key) => chains.freeName(names, key, EFFECTS);
  assert.equal(free([], "reverb"), "reverb");
  assert.equal(free(["reverb"], "reverb"), "reverb-2");
  assert.equal(free(["reverb-2"], "reverb"), "reverb");
  assert.equal(free(["reverb", "reverb-2"], "reverb"), "reverb-3");
  assert.equal(free(["comb", "comb-2"], "comb"), "comb-4"); // comb-3 is an effect of its own
  const all = ["a", ...Array.from({ length: 98 }, (_, i) => `a-${i + 2}`)];
  assert.equal(free(all, "a"), null);
});

test("an insert is moved to a place, within the ends", () => {
  const names = ["a", "b", "c"];
  assert.deepEqual(chains.movedTo(names, "a", 1), ["b", "a", "c"]);
  assert.deepEqual(chains.movedTo(names, "c", 0), ["c", "a", "b"]);
  assert.deepEqual(chains.movedTo(names, "b", 9), ["a", "c", "b"]);
  assert.deepEqual(chains.movedTo(names, "b", -1), ["b", "a", "c"]);
  assert.deepEqual(chains.movedTo(names, "x", 0), names);
});

test("parameters of an insert: dry/wet first, bypass has its own button", () => {
  const paths = ["bypass", "size", "dry_wet", "width"].map((name) => `stem/bass/fx/reverb/${name}`);
  const infos = new Map([...paths, "stem/bass/fx/reverb-2/size"].map((path) => [path, { path }]));
  const found = chains.insertInfos(infos, "bass", "reverb").map((info) => info.path.split("/").at(-1));
  assert.deepEqual(found, ["dry_wet", "size", "width"]);
});

test("effects are found by all words, in groups", () => {
  const effects = [...EFFECTS.values()];
  const found = (text) => chains.matching(effects, text).map((effect) => effect.key);
  assert.deepEqual(found(""), [...EFFECTS.keys()]);
  assert.deepEqual(found("  LOW end"), ["highpass_filter"]);
  assert.deepEqual(found("room pass"), []);
  assert.deepEqual(
    chains.groupsOf(effects).map(([title, group]) => `${title}: ${group.map((effect) => effect.key)}`),
    ["Filters: highpass_filter", "Room and echo: reverb", "Plugins: comb-3"],
  );
});

test("the strip counts inserts, and those that are heard", () => {
  assert.equal(chains.countText(0, 0), "+ FX");
  assert.equal(chains.countText(2, 2), "FX 2");
  assert.equal(chains.countText(1, 2), "FX 1/2");
});
