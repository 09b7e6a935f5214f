// Ballistics of one meter channel: rises at once, falls 20 dB in 1.7 s, a hold mark, a clip mark. No DOM.

export const FALL_DB_PER_S = 20 / 1.7;
export const HOLD_S = 1;
export const CLIP_SHOWN_S = 5;
export const CLIP_DB = 0;
/** Without a frame for so long the meters fall to nothing. */
export const SILENT_AFTER_S = 2;

/** Bar, hold mark and clip mark of one channel; times in seconds of any clock that only goes forward. */
export class Peak {
  constructor() {
    this.barDb = -Infinity;
    this.holdDb = -Infinity;
    this.rmsDb = -Infinity;
    this.heldSince = -Infinity;
    this.clippedAt = -Infinity;
    this.movedAt = null;
  }

  /** Take the levels of a frame. */
  take(peakDb, rmsDb, nowS) {
    this.fall(nowS);
    this.barDb = Math.max(this.barDb, peakDb);
    this.rmsDb = rmsDb;
    if (peakDb >= this.holdDb) {
      this.holdDb = peakDb;
      this.heldSince = nowS;
    }
    if (peakDb >= CLIP_DB) this.clippedAt = nowS;
  }

  /** Let time pass. */
  fall(nowS) {
    const last = this.movedAt ?? nowS;
    this.movedAt = nowS;
    const lost = FALL_DB_PER_S * Math.max(0, nowS - last);
    this.barDb -= lost;
    const free = nowS - Math.max(last, this.heldSince + HOLD_S);
    if (free > 0) this.holdDb -= FALL_DB_PER_S * free;
    this.holdDb = Math.max(this.holdDb, this.barDb);
  }

  /** No sound is measured any more: the bars go on falling, what was measured is forgotten. */
  lose() {
    this.rmsDb = -Infinity;
  }

  /** Whether a sample reached full scale lately. */
  hasClipped(nowS) {
    return nowS - this.clippedAt < CLIP_SHOWN_S;
  }
}
