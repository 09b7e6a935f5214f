// One control and its parameter: at most one message in flight plus the latest value. No DOM.

/**
 * What a control shows, and when it sends.
 *
 * While the control is held, or a reply is awaited, it shows its own value and others' moves wait; then it
 * shows the node's. `send(value)` is called with at most one request under way: `settle()` tells its end.
 */
export class Linked {
  constructor(value, send) {
    this.send = send;
    this.theirs = value;
    this.own = value;
    this.isHeld = false;
    this.isWaiting = false;
    this.hasNext = false;
  }

  /** The value to be shown. */
  get shown() {
    return this.isHeld || this.isWaiting ? this.own : this.theirs;
  }

  /** The hand is on the control. */
  hold() {
    if (!this.isHeld && !this.isWaiting) this.own = this.theirs;
    this.isHeld = true;
  }

  /** The hand has left the control. */
  release() {
    this.isHeld = false;
  }

  /** The control was moved. */
  move(value) {
    if (value === this.shown) return;
    this.own = value;
    if (this.isWaiting) {
      this.hasNext = true;
      return;
    }
    this.isWaiting = true;
    this.send(value);
  }

  /** The reply, or the refusal, of the last message has come. */
  settle() {
    this.isWaiting = false;
    if (!this.hasNext) return;
    this.hasNext = false;
    this.isWaiting = true;
    this.send(this.own);
  }

  /** The node says what holds. */
  follow(value) {
    this.theirs = value;
  }

  /** The connection broke: nothing is awaited, and nothing old will be sent. */
  reset() {
    this.isHeld = this.isWaiting = this.hasNext = false;
  }
}
