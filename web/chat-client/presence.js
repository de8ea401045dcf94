// Who is online in which room. Those who leave stay until the server's grace is over, so that reconnecting does not
// flap.

import { SECOND } from "./clock.js";

const USUAL_GRACE = 25 * SECOND;

export class Presence {
  /** Per room, who is there, with the timer of those who are leaving. @type {Map<string, Map<string, unknown>>} */
  #rooms = new Map();
  /** Rooms somebody asked about, so that the answer is renewed with every connection. @type {Set<string>} */
  #watched = new Set();
  #clock;
  #changed;

  /**
   * @param {import("../chat-client.d.ts").Clock} clock
   * @param {(change: { room: string, user: string, online: boolean }) => void} changed
   */
  constructor(clock, changed) {
    this.#clock = clock;
    this.#changed = changed;
  }

  get watched() {
    return [...this.#watched];
  }

  /** @param {string} room */
  watch(room) {
    this.#watched.add(room);
  }

  /** @param {string} room */
  members(room) {
    return [...(this.#rooms.get(room)?.keys() ?? [])].sort();
  }

  /**
   * @param {string} room
   * @param {string} user
   */
  arrived(room, user) {
    const present = this.#rooms.get(room) ?? new Map();
    this.#rooms.set(room, present);
    const known = present.has(user);
    this.#clock.clearTimeout(present.get(user));
    present.set(user, undefined);
    if (!known) this.#changed({ room, user, online: true });
  }

  /**
   * Gone, unless they come back within the grace.
   * @param {string} room
   * @param {string} user
   * @param {number} [graceMs]
   */
  leaving(room, user, graceMs = USUAL_GRACE) {
    const present = this.#rooms.get(room);
    if (!present?.has(user)) return;
    this.#clock.clearTimeout(present.get(user));
    present.set(
      user,
      this.#clock.setTimeout(() => this.#departed(room, user), graceMs),
    );
  }

  /**
   * Takes over the server's list. Whoever is within their grace may be on their way back, which the server cannot know.
   * @param {string} room
   * @param {string[]} users
   */
  renew(room, users) {
    const online = new Set(users);
    for (const user of online) this.arrived(room, user);
    for (const [user, leaving] of [...(this.#rooms.get(room) ?? [])]) {
      if (!online.has(user) && leaving === undefined) this.#departed(room, user);
    }
  }

  /** @param {string} room */
  forget(room) {
    for (const timer of this.#rooms.get(room)?.values() ?? []) this.#clock.clearTimeout(timer);
    this.#rooms.delete(room);
    this.#watched.delete(room);
  }

  /** Ends all timers; who is online stays as it was last known. */
  stop() {
    for (const present of this.#rooms.values()) {
      for (const [user, timer] of present) {
        this.#clock.clearTimeout(timer);
        present.set(user, undefined);
      }
    }
  }

  /**
   * @param {string} room
   * @param {string} user
   */
  #departed(room, user) {
    this.#clock.clearTimeout(this.#rooms.get(room)?.get(user));
    if (this.#rooms.get(room)?.delete(user)) this.#changed({ room, user, online: false });
  }
}
