// The state as the node told it: a snapshot, then every change in order. No DOM.

/** A change was lost: the connection must begin anew, with a snapshot. */
export class GapError extends Error {}

/** Values by path at a revision of an epoch. */
export class Mirror {
  constructor() {
    this.values = new Map();
    this.revision = 0;
    this.epoch = "";
  }

  /** What `identify` asks to be resumed from; null before the first snapshot. */
  get resume() {
    return this.epoch ? { epoch: this.epoch, revision: this.revision } : null;
  }

  /** Take a snapshot; returns the paths that changed or went. */
  replace(message) {
    const next = new Map(Object.entries(message.values));
    const touched = [...next.keys()].filter((path) => this.values.get(path) !== next.get(path));
    const gone = [...this.values.keys()].filter((path) => !next.has(path));
    this.values = next;
    this.revision = message.revision;
    this.epoch = message.epoch;
    return [...touched, ...gone];
  }

  /** Take changes; returns the paths that changed or went. Throws GapError if one is missing. */
  follow(message) {
    const touched = new Set();
    for (const change of message.changes) {
      if (change.revision !== this.revision + 1) {
        throw new GapError(`revision ${change.revision} after ${this.revision}`);
      }
      this.revision = change.revision;
      for (const [path, value] of Object.entries(change.values)) {
        if (value === null) this.values.delete(path);
        else this.values.set(path, value);
        touched.add(path);
      }
    }
    return [...touched];
  }

  /** Forget all, so that the next connection brings a snapshot. */
  forget() {
    this.epoch = "";
  }
}
