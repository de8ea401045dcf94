// What the client knows of one room: how far its messages were delivered without a gap.

export class Room {
  /** Highest `seq` up to which everything was delivered, or `null` while the client has no point to start from. */
  /** @type {number | null} */
  seq = null;
  /** Highest `seq` the server has named. */
  head = 0;
  /** Whether the client wants to be in it. Rooms of two need no joining. */
  wanted = false;
  /** The join under way, if one is. @type {Promise<import("../chat-client.d.ts").Page> | null} */
  joining = null;
  /** @type {Promise<void> | null} */
  filling = null;
  /** @type {unknown} */
  fillTimer = undefined;
  /** Messages that arrived ahead of their turn. @type {Map<number, any>} */
  #held = new Map();

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  get direct() {
    return this.name.startsWith("@");
  }

  /** Highest `seq` that must exist. */
  get known() {
    let known = this.head;
    for (const seq of this.#held.keys()) if (seq > known) known = seq;
    return known;
  }

  /** Whether messages that must exist have not arrived. */
  get missing() {
    return this.seq !== null && this.seq < this.known;
  }

  /**
   * Takes a message in and returns those whose turn it now is, in order; none for a duplicate or one ahead of a gap.
   * @param {any} message
   * @returns {any[]}
   */
  accept(message) {
    if (!Number.isSafeInteger(message.seq) || message.seq < 1) return [];
    this.seq ??= message.seq - 1;
    if (message.seq <= this.seq || this.#held.has(message.seq)) return [];
    this.#held.set(message.seq, message);
    return this.#release();
  }

  /**
   * Gives up on everything up to `seq` that has not arrived. Returns the range that was given up and what it set free.
   * @param {number} seq
   */
  skip(seq) {
    const from = (this.seq ?? 0) + 1;
    for (const held of [...this.#held.keys()]) if (held <= seq) this.#held.delete(held);
    this.seq = seq;
    return { from, to: seq, ready: this.#release() };
  }

  /** The room began anew: its numbers count from 1 again. */
  restart() {
    this.#held.clear();
    this.seq = 0;
    this.head = 0;
  }

  /** Where the run of missing messages ends: just below the first one that did arrive, or at the head. */
  get gapEnd() {
    let end = Infinity;
    for (const seq of this.#held.keys()) if (seq - 1 < end) end = seq - 1;
    return Number.isFinite(end) ? end : this.head;
  }

  #release() {
    const ready = [];
    for (;;) {
      const next = /** @type {number} */ (this.seq) + 1;
      const message = this.#held.get(next);
      if (message === undefined) break;
      this.#held.delete(next);
      this.seq = next;
      ready.push(message);
    }
    if (this.seq !== null && this.seq > this.head) this.head = this.seq;
    return ready;
  }
}
