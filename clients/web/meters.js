// Meters on canvases, all drawn in one animation frame.

import { element, setAttribute } from "./dom.js";
import { levelText } from "./format.js";
import { limited, METER_MARKS, meterHeight } from "./law.js";
import { Peak, SILENT_AFTER_S } from "./peaks.js";

const SPOKEN_EVERY_S = 1;
const CALM_EVERY_S = 0.25;
const [GROUND, MARK, HOLD, CLIP] = ["#07090c", "#2b333d", "#f4f7fa", "#ff4d4d"];

/** Left and right of one bus. */
export class Meter {
  constructor(name, colour, orientation = "vertical") {
    this.colour = colour;
    this.isVertical = orientation === "vertical";
    this.channels = [new Peak(), new Peak()];
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.clip = element("span", { class: "clip", hidden: true }, "CLIP");
    this.element = element(
      "div",
      {
        class: `meter ${orientation}`,
        role: "meter",
        "aria-label": `${name} level`,
        "aria-valuemin": -60,
        "aria-valuemax": 0,
        "aria-valuenow": -60,
        "aria-valuetext": "silent",
      },
      this.canvas,
    );
    this.spokenS = -Infinity;
    this.loudestDb = -Infinity;
    this.drawn = "";
  }

  /** Take [peak left, peak right, RMS left, RMS right] in dB. */
  take([left, right, rmsLeft, rmsRight], nowS) {
    this.channels[0].take(left, rmsLeft, nowS);
    this.channels[1].take(right, rmsRight, nowS);
    this.loudestDb = Math.max(this.loudestDb, left, right);
  }

  /** No frames come. */
  lose() {
    for (const channel of this.channels) channel.lose();
  }

  /** Draw what holds now, if it looks other than before. */
  draw(nowS) {
    for (const channel of this.channels) channel.fall(nowS);
    const hasClipped = this.channels.some((channel) => channel.hasClipped(nowS));
    this.clip.hidden = !hasClipped;
    const [width, height] = this._fit();
    const length = this.isVertical ? height : width;
    const bars = this.channels.map((channel) => {
      const barDb = channel.barDb;
      const levels = [Math.min(channel.rmsDb, barDb), barDb, channel.holdDb];
      return [...levels.map((db) => Math.round(meterHeight(db) * length)), channel.hasClipped(nowS)];
    });
    const look = `${width} ${height} ${bars}`;
    if (look !== this.drawn && width && height) {
      this.drawn = look;
      this._paint(bars, width, height);
    }
    this._speak(nowS);
  }

  _fit() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((n) => Math.round(n * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    return [width, height];
  }

  _paint(bars, width, height) {
    const pen = this.canvas.getContext("2d");
    const length = this.isVertical ? height : width;
    const breadth = this.isVertical ? width : height;
    const line = Math.max(1, Math.round(window.devicePixelRatio || 1));
    const box = (across, thick, from, to, colour) => {
      pen.fillStyle = colour;
      if (this.isVertical) pen.fillRect(across, length - to, thick, to - from);
      else pen.fillRect(from, across, to - from, thick);
    };
    box(0, breadth, 0, length, GROUND);
    for (const [, at] of METER_MARKS) {
      const mark = limited(Math.round(at * length), line, length);
      box(0, breadth, mark - line, mark, MARK);
    }
    const lane = Math.floor((breadth - line) / 2);
    bars.forEach(([rms, peak, hold, hasClipped], i) => {
      const across = i === 0 ? 0 : breadth - lane;
      pen.globalAlpha = 0.55;
      box(across, lane, 0, peak, this.colour);
      pen.globalAlpha = 1;
      box(across, lane, 0, rms, this.colour);
      if (hold > 2 * line) box(across, lane, hold - 2 * line, hold, HOLD);
      if (hasClipped) box(across, lane, length - 6 * line, length, CLIP);
    });
  }

  _speak(nowS) {
    if (nowS - this.spokenS < SPOKEN_EVERY_S) return;
    this.spokenS = nowS;
    setAttribute(this.element, "aria-valuenow", Math.round(limited(this.loudestDb, -60, 0)));
    setAttribute(this.element, "aria-valuetext", levelText(this.loudestDb));
    this.loudestDb = -Infinity;
  }
}

/** All meters of the page, by bus. */
export class MeterBank {
  constructor() {
    this.meters = new Map();
    this.frameS = -Infinity;
    this.drawnS = -Infinity;
    this.calm = window.matchMedia("(prefers-reduced-motion: reduce)");
    const draw = () => {
      this._draw(performance.now() / 1000);
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  /** Take a frame of levels. */
  take(message) {
    this.frameS = performance.now() / 1000;
    for (const [bus, levels] of Object.entries(message.levels)) {
      this.meters.get(bus)?.take(levels, this.frameS);
    }
  }

  _draw(nowS) {
    if (this.calm.matches && nowS - this.drawnS < CALM_EVERY_S) return;
    this.drawnS = nowS;
    const isLost = nowS - this.frameS > SILENT_AFTER_S;
    for (const meter of this.meters.values()) {
      if (isLost) meter.lose();
      meter.draw(nowS);
    }
  }
}
