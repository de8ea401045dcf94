// Brings the messages of each room in order and without a gap: holds what came too early, asks history for what did
// not come, and says what never will.

import { SECOND } from "./clock.js";
import { LIMITS } from "./names.js";

/** The server handles messages of a room concurrently: most gaps close by themselves within moments. */
const PATIENCE = 0.25 * SECOND;
/** Looks at the history for a gap before it is taken as final: the last messages may not be readable at once. */
const LOOKS = 4;

/** @typedef {import("./room.js").Room} Room */

export class Delivery {
  #clock;
  #maxCatchUp;
  #port;

  /**
   * @param {import("../chat-client.d.ts").Clock} clock
   * @param {number} maxCatchUp
   * @param {{
   *   room: (name: string) => Room | undefined,
   *   call: (frame: any) => Promise<any>,
   *   seen: (room: Room, item: any) => void,
   *   deliver: (room: Room, item: any) => void,
   *   moved: (room: Room) => void,
   *   gap: (gap: { room: string, from: number, to: number }) => void,
   *   reset: (room: Room) => void,
   * }} port `seen` is told of every message that comes in, `deliver` of each one time, in order
   */
  constructor(clock, maxCatchUp, port) {
    this.#clock = clock;
    this.#maxCatchUp = maxCatchUp;
    this.#port = port;
  }

  /**
   * @param {Room} room
   * @param {any[]} items
   */
  accept(room, items) {
    for (const item of items) {
      this.#port.seen(room, item);
      for (const ready of room.accept(item)) this.#port.deliver(room, ready);
    }
    if (room.missing) this.#fillSoon(room);
  }

  /**
   * The server has named the newest `seq`.
   * @param {Room} room
   * @param {number} head
   */
  learn(room, head) {
    if (Number.isSafeInteger(head) && head > room.head) {
      room.head = head;
      this.#port.moved(room);
    }
    if (room.missing) this.#fillSoon(room);
  }

  /**
   * The server's newest `seq` when the room was resumed. One below what was delivered means that everything had expired
   * and the numbers began anew, or that the server read a moment too early. The second passes.
   * @param {Room} room
   * @param {number} head
   */
  resumed(room, head) {
    if (head < (room.seq ?? 0)) void this.#restarted(room);
    else this.learn(room, head);
  }

  /**
   * Resolves, never rejects, when nothing known is missing in the room.
   * @param {Room} room
   * @param {boolean} ask look at the server's history even when nothing is known to be missing
   */
  async caughtUp(room, ask) {
    if (room.seq === null) return;
    if (ask) {
      await room.filling;
      await this.#fill(room, true);
    } else if (room.missing) {
      await this.#fill(room, false);
    }
  }

  /** @param {Room} room */
  forget(room) {
    this.#clock.clearTimeout(room.fillTimer);
    room.fillTimer = undefined;
  }

  /** @param {Room} room */
  async #restarted(room) {
    try {
      await this.#sleep(SECOND);
      const { upto } = await this.#port.call({ action: "history", room: room.name, limit: 1 });
      if (!this.#current(room) || upto >= (room.seq ?? 0)) return;
      room.restart();
      this.#port.reset(room);
      await this.caughtUp(room, true);
    } catch {
      // The next connection shows it again.
    }
  }

  /** @param {Room} room */
  #fillSoon(room) {
    if (room.filling || room.fillTimer !== undefined) return;
    room.fillTimer = this.#clock.setTimeout(() => {
      room.fillTimer = undefined;
      if (room.missing) void this.#fill(room, false);
    }, PATIENCE);
  }

  /**
   * @param {Room} room
   * @param {boolean} ask
   */
  #fill(room, ask) {
    room.filling ??= this.#fillNow(room, ask)
      // Without the server's help the gap stays, and is looked at again with the next message or connection.
      .catch(() => {})
      .finally(() => (room.filling = null));
    return room.filling;
  }

  /**
   * @param {Room} room
   * @param {boolean} ask
   */
  async #fillNow(room, ask) {
    let looks = 0;
    while (ask || room.missing) {
      const from = /** @type {number} */ (room.seq);
      if (room.known - from > this.#maxCatchUp) {
        this.#skip(room, room.known - LIMITS.page);
        continue;
      }
      const batch = await this.#port.call({
        action: "history",
        room: room.name,
        after: from,
        limit: LIMITS.page,
      });
      if (!this.#current(room)) return;
      this.accept(room, batch.items);
      ask = batch.more === true && batch.items.length > 0;
      if (room.seq !== from) {
        looks = 0;
      } else if (room.missing && ++looks >= LOOKS) {
        this.#skip(room, room.gapEnd);
      } else if (room.missing) {
        await this.#sleep(PATIENCE * 2 ** looks);
      }
    }
  }

  /**
   * What will not come, because it has expired or is too much, is passed over, and said so.
   * @param {Room} room
   * @param {number} seq
   */
  #skip(room, seq) {
    const { from, to, ready } = room.skip(seq);
    this.#port.gap({ room: room.name, from, to });
    for (const item of ready) this.#port.deliver(room, item);
  }

  /**
   * Whether it was not left while something was awaited.
   * @param {Room} room
   */
  #current(room) {
    return this.#port.room(room.name) === room;
  }

  /** @param {number} ms */
  #sleep(ms) {
    return new Promise((resolve) => this.#clock.setTimeout(() => resolve(undefined), ms));
  }
}
