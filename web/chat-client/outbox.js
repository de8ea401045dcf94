// Messages on their way out: in order per room, one at a time, repeated under the same id until the server has
// answered for each. Outlives connections, and with storage also the page.

import { ChatError } from "./error.js";
import { SECOND, backoff, stretched } from "./clock.js";

const ACK_TIMEOUT = 10 * SECOND;
/** Answers of the server, not lost connections, after which a message counts as failed. */
const ATTEMPTS = 10;

/** @typedef {import("../chat-client.d.ts").Outgoing} Outgoing */
/** @typedef {{ item: Outgoing, resolve: Function, reject: Function }} Entry */

export class Outbox {
  /** Per room, oldest first. @type {Map<string, Entry[]>} */
  #lanes = new Map();
  /** Rooms whose lane is being worked off. @type {Set<string>} */
  #busy = new Set();
  #clock;
  #port;

  /**
   * @param {import("../chat-client.d.ts").Clock} clock
   * @param {{
   *   link: () => import("./link.js").Link | null,
   *   catchUp: (room: string, uncertain: boolean) => Promise<void>,
   *   rejoin: (room: string) => Promise<void>,
   *   refused: (error: ChatError) => boolean,
   *   changed: (item: Outgoing, more?: { ack?: any }) => void,
   * }} port what the outbox needs from its client; `refused` says whether an error will be dealt with by reconnecting
   */
  constructor(clock, port) {
    this.#clock = clock;
    this.#port = port;
  }

  /** @returns {Outgoing[]} oldest first within each room */
  get items() {
    return [...this.#lanes.values()].flat().map(({ item }) => ({ ...item }));
  }

  /**
   * @param {Outgoing} item
   * @returns {Promise<any>} the ack
   */
  add(item) {
    const lane = this.#lanes.get(item.room) ?? [];
    this.#lanes.set(item.room, lane);
    const acked = new Promise((resolve, reject) => lane.push({ item, resolve, reject }));
    this.#port.changed(item);
    this.pump(item.room);
    return acked;
  }

  /** @param {Outgoing[]} items as they were saved; what was under way is queued again */
  restore(items) {
    for (const item of items) {
      const lane = this.#lanes.get(item.room) ?? [];
      this.#lanes.set(item.room, lane);
      const state = item.state === "failed" ? "failed" : "queued";
      lane.push({ item: { ...item, state }, resolve: () => {}, reject: () => {} });
    }
  }

  /** @param {string} id */
  retry(id) {
    const entry = this.#find(id);
    if (entry?.item.state !== "failed") return false;
    entry.item.attempts = 0;
    this.#mark(entry, "queued");
    this.pump(entry.item.room);
    return true;
  }

  /** @param {string} id */
  discard(id) {
    const entry = this.#find(id);
    if (!entry || entry.item.state === "sending") return false;
    this.#remove(entry);
    entry.reject(new ChatError("CLOSED", "the message was discarded"));
    this.#mark(entry, "discarded");
    return true;
  }

  /**
   * Forgets everything that is not sent yet.
   * @param {string} room
   */
  abandon(room) {
    for (const entry of [...(this.#lanes.get(room) ?? [])]) {
      this.#remove(entry);
      entry.reject(new ChatError("CLOSED", "the room was left"));
      this.#mark(entry, "discarded");
    }
  }

  pumpAll() {
    for (const room of this.#lanes.keys()) this.pump(room);
  }

  /**
   * The message was seen in its room: that it is stored needs no more proof.
   * @param {string} id
   * @param {any} ack
   */
  delivered(id, ack) {
    const entry = this.#find(id);
    if (!entry) return;
    this.#remove(entry);
    this.#port.link()?.settle(id, ack);
    entry.resolve(ack);
    this.#mark(entry, "sent", { ack });
  }

  /** @param {ChatError} error what every waiting promise is told; the messages themselves stay */
  close(error) {
    for (const { reject } of [...this.#lanes.values()].flat()) reject(error);
  }

  /** @param {string} room */
  pump(room) {
    if (this.#busy.has(room)) return;
    this.#busy.add(room);
    this.#work(room).finally(() => {
      this.#busy.delete(room);
      // Something may have been queued, or a connection adopted, between the last look and here.
      if (this.#next(room) && this.#port.link()) this.pump(room);
    });
  }

  /** @param {string} room */
  async #work(room) {
    for (;;) {
      if (!this.#port.link() || !this.#next(room)) return;
      // A message of an earlier connection may have arrived after all; the missed messages tell.
      await this.#port.catchUp(room, false);
      const link = this.#port.link();
      const entry = this.#next(room);
      if (!link || !entry) return;
      this.#mark(entry, "sending");
      try {
        const { id, body } = entry.item;
        const ack = await link.request({ action: "send", id, room, body }, ACK_TIMEOUT);
        this.delivered(id, ack);
      } catch (error) {
        await this.#failed(entry, /** @type {ChatError} */ (error), link);
      }
    }
  }

  /**
   * @param {Entry} entry
   * @param {ChatError} error
   * @param {import("./link.js").Link} link
   */
  async #failed(entry, error, link) {
    const { item } = entry;
    if (!this.#find(item.id)) return;
    this.#mark(entry, "queued");
    if (this.#port.refused(error)) return;
    if (link.up) {
      item.attempts += 1;
      let reason = error;
      let retry = error.retry;
      if (error.code === "NOT_IN_ROOM" && !item.room.startsWith("@")) {
        retry = true;
        await this.#port.rejoin(item.room).catch((/** @type {ChatError} */ refusal) => {
          reason = refusal;
          retry = refusal.retry;
        });
      }
      if (!retry || item.attempts >= ATTEMPTS) return this.#giveUp(entry, reason);
      const wait =
        error.retryMs === undefined
          ? backoff(this.#clock, item.attempts)
          : stretched(this.#clock, error.retryMs);
      await new Promise((resolve) => this.#clock.setTimeout(() => resolve(undefined), wait));
    }
    if (error.uncertain && this.#port.link()) await this.#port.catchUp(item.room, true);
  }

  /**
   * @param {Entry} entry
   * @param {ChatError} error
   */
  #giveUp(entry, error) {
    this.#mark(entry, "failed", { error });
    entry.reject(error);
  }

  /**
   * @param {Entry} entry
   * @param {Outgoing["state"]} state
   * @param {{ ack?: any, error?: ChatError }} [more]
   */
  #mark(entry, state, more) {
    entry.item.state = state;
    if (state !== "failed") delete entry.item.error;
    else if (more?.error) entry.item.error = { code: more.error.code, message: more.error.message };
    this.#port.changed(entry.item, more?.ack && { ack: more.ack });
  }

  /** @param {string} room */
  #next(room) {
    return this.#lanes.get(room)?.find(({ item }) => item.state !== "failed");
  }

  /** @param {string} id */
  #find(id) {
    for (const lane of this.#lanes.values()) {
      const entry = lane.find(({ item }) => item.id === id);
      if (entry) return entry;
    }
    return undefined;
  }

  /** @param {Entry} entry */
  #remove(entry) {
    const lane = this.#lanes.get(entry.item.room) ?? [];
    const rest = lane.filter((other) => other !== entry);
    if (rest.length > 0) this.#lanes.set(entry.item.room, rest);
    else this.#lanes.delete(entry.item.room);
  }
}
