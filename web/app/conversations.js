// What the app shows, without showing it: conversations with their messages in order, unread counts, who is there.
// Knows the client and the read marks, no elements; says "changed" with the room it concerns.

import { directPeer, directRoom } from "../chat-client.js";

const PAGE = 50;
/** Messages kept per room, up to twice as many between clearings. */
const KEPT = 300;

/**
 * @typedef {object} Entry
 * @property {string} key
 * @property {number | null} seq `null` until the server has it
 * @property {string} mid
 * @property {string} from
 * @property {number} ts
 * @property {string} text
 * @property {boolean} own
 * @property {"received" | "sending" | "sent" | "failed"} state
 * @property {string} [error]
 *
 * @typedef {object} Conversation
 * @property {string} room
 * @property {string | null} peer the other one, in a room of two
 * @property {Entry[]} entries by seq, then what is on its way
 * @property {boolean} older whether history may have more
 * @property {boolean} loaded whether the newest messages are here
 * @property {Promise<void> | null} loading
 * @property {number} head
 * @property {number} read
 * @property {number | null} newFrom first unread seq when it was opened
 * @property {number} touched for sorting
 */

export class Conversations {
  #client;
  #marks;
  /** @type {Map<string, Conversation>} */
  #all = new Map();
  #changed;
  /** @type {string | null} */
  active = null;

  /**
   * @param {import("../chat-client.js").ChatClient} client
   * @param {ReturnType<typeof import("./memory.js").readMarks>} marks
   * @param {(change: { room: string | null, arrived?: Entry }) => void} changed
   */
  constructor(client, marks, changed) {
    this.#client = client;
    this.#marks = marks;
    this.#changed = changed;
    client.on("message", (message) => this.#message(message));
    client.on("outgoing", (item) => this.#outgoing(item));
    client.on("room", (info) => this.#known(info));
    client.on("presence", (change) => this.#presence(change));
    client.on("gap", ({ room, to }) => this.#forgetUpTo(room, to));
    client.on("reset", ({ room }) => this.#reset(room));
    client.on("refused", ({ room }) => this.#drop(room));
    for (const info of client.rooms) this.#known(info);
    for (const item of client.outbox) this.#outgoing(item);
  }

  get me() {
    return this.#client.user ?? "";
  }

  /** @param {string | null} room */
  get(room) {
    return room === null ? undefined : this.#all.get(room);
  }

  /** Named rooms by name, then people by who spoke last. */
  get rooms() {
    return [...this.#all.values()]
      .filter(({ peer }) => peer === null)
      .sort((a, b) => (a.room < b.room ? -1 : 1));
  }

  get directs() {
    return [...this.#all.values()].filter(({ peer }) => peer !== null).sort((a, b) => b.touched - a.touched);
  }

  get unread() {
    let sum = 0;
    for (const conversation of this.#all.values()) sum += unread(conversation);
    return sum;
  }

  /** @param {string} room */
  async join(room) {
    const known = this.#all.has(room);
    const page = await this.#client.join(room);
    const conversation = this.#open(room);
    this.#merge(conversation, page.messages);
    if (!conversation.loaded) conversation.older = page.more;
    conversation.loaded = true;
    if (!known) this.markRead(room);
    this.#changed({ room });
  }

  /** @param {string} peer */
  async direct(peer) {
    const room = await this.#client.direct(peer);
    this.#marks.close(room, false);
    this.#open(room).touched = Date.now();
    this.#changed({ room });
    return room;
  }

  /** @param {string} room */
  async leave(room) {
    if (this.#all.get(room)?.peer == null) {
      this.#drop(room);
      this.#marks.set(room, undefined);
      return this.#client.leave(room);
    }
    // A room of two one cannot leave: it is put away, as read, until somebody writes there.
    this.markRead(room);
    this.#marks.close(room, true);
    this.#drop(room);
  }

  /**
   * Makes it the one in front, and sees to it that its newest messages and its people are here.
   * @param {string | null} room
   */
  async show(room) {
    this.active = room;
    const conversation = this.get(room);
    if (!conversation) return this.#changed({ room });
    conversation.newFrom = null;
    this.markNew(conversation.room);
    this.#changed({ room });
    this.askWho();
    if (!conversation.loaded) await this.loadOlder(conversation.room);
  }

  /** Rooms of two announce nobody, so for them the answer does not stay fresh by itself. */
  askWho() {
    if (this.active !== null) this.#client.who(this.active).catch(() => {});
  }

  /** @param {string} room */
  loadOlder(room) {
    const conversation = this.#all.get(room);
    if (!conversation || (conversation.loaded && !conversation.older)) return Promise.resolve();
    conversation.loading ??= this.#load(conversation).finally(() => {
      conversation.loading = null;
      this.#changed({ room });
    });
    return conversation.loading;
  }

  /** @param {Conversation} conversation */
  async #load(conversation) {
    const { room } = conversation;
    // Where only the newest few have come by themselves, what is before them is the next page.
    const first = conversation.entries.find(({ seq }) => seq !== null)?.seq ?? undefined;
    this.#changed({ room });
    const page = await this.#client.history(room, { before: first, limit: PAGE });
    if (this.#all.get(room) !== conversation) return;
    conversation.older = page.more;
    conversation.loaded = true;
    this.#merge(conversation, page.messages);
    if (first === undefined) this.#headMoved(conversation, page.messages.at(-1)?.seq ?? 0);
  }

  /**
   * @param {string} room
   * @param {string} text
   */
  send(room, text) {
    const conversation = this.#all.get(room);
    if (conversation) conversation.newFrom = null;
    void this.#client.send(room, text);
  }

  /** @param {string} mid */
  retry(mid) {
    this.#client.retry(mid);
  }

  /** @param {string} mid */
  discard(mid) {
    this.#client.discard(mid);
  }

  /**
   * Draws the line between what was read and what was not.
   * @param {string} room
   */
  markNew(room) {
    const conversation = this.#all.get(room);
    if (!conversation || unread(conversation) === 0) return;
    conversation.newFrom = conversation.read + 1;
    this.#changed({ room });
  }

  /** @param {string} room */
  markRead(room) {
    const conversation = this.#all.get(room);
    if (!conversation || conversation.read >= conversation.head) return;
    this.#setRead(conversation, conversation.head);
    this.#changed({ room });
  }

  /**
   * Everybody known in a room: who is online, then those who have spoken and are not.
   * @param {string} room
   */
  people(room) {
    const conversation = this.#all.get(room);
    const online = new Set(this.#client.members(room));
    if (this.#client.state === "online") online.add(this.me);
    const known = new Set(conversation?.entries.map(({ from }) => from));
    if (conversation?.peer) {
      known.add(conversation.peer).add(this.me);
      // Rooms of two announce nobody; a room that both are in may know more.
      if (this.isOnline(conversation.peer)) online.add(conversation.peer);
    }
    return {
      online: [...online].sort(),
      away: [...known].filter((user) => !online.has(user)).sort(),
    };
  }

  /**
   * Whether somebody is online, as seen in any room.
   * @param {string} user
   */
  isOnline(user) {
    const direct = user === this.me ? [] : this.#client.members(directRoom(this.me, user));
    return (
      direct.includes(user) ||
      this.#client.rooms.some(({ room }) => this.#client.members(room).includes(user))
    );
  }

  /** @param {import("../chat-client.d.ts").RoomInfo} info */
  #known({ room, head, joined, direct }) {
    const away = direct && this.#marks.closed(room);
    if ((joined || direct) && !away) this.#headMoved(this.#open(room), head);
  }

  /** @param {{ room: string, user: string, online: boolean }} change */
  #presence({ room, user, online }) {
    this.#changed({ room });
    const pair = online || user === this.me ? null : directRoom(this.me, user);
    if (pair === null || pair === room || !this.#all.has(pair)) return;
    // They left a room; whether they are gone altogether is what the conversation with them shows.
    if (this.#client.members(pair).includes(user)) this.#client.who(pair).catch(() => {});
  }

  /** @param {string} room */
  #open(room) {
    let conversation = this.#all.get(room);
    if (!conversation) {
      const peer = directPeer(room, this.me);
      const read = this.#marks.get(room) ?? 0;
      conversation = {
        room,
        peer,
        entries: [],
        older: true,
        loaded: false,
        loading: null,
        head: 0,
        read,
        newFrom: null,
        touched: 0,
      };
      this.#all.set(room, conversation);
      this.#changed({ room });
    }
    return conversation;
  }

  /** @param {string} room */
  #drop(room) {
    this.#all.delete(room);
    if (this.active === room) this.active = null;
    this.#changed({ room });
  }

  /**
   * @param {Conversation} conversation
   * @param {number} head
   */
  #headMoved(conversation, head) {
    if (head <= conversation.head) return;
    conversation.head = head;
    this.#changed({ room: conversation.room });
  }

  /** @param {import("../chat-client.d.ts").Message} message */
  #message(message) {
    this.#marks.close(message.room, false);
    const conversation = this.#open(message.room);
    const entry = this.#put(conversation, message);
    this.#headMoved(conversation, message.seq);
    conversation.touched = Math.max(conversation.touched, message.ts);
    // Whoever answers has read what came before.
    if (message.own) this.#setRead(conversation, message.seq);
    if (message.room !== this.active) this.trim(message.room);
    this.#changed({ room: message.room, arrived: message.own ? undefined : entry });
  }

  /** @param {import("../chat-client.d.ts").Outgoing & { ack?: import("../chat-client.d.ts").Ack }} item */
  #outgoing(item) {
    const conversation = this.#open(item.room);
    const key = keyOf(this.me, item.id);
    const known = conversation.entries.find((entry) => entry.key === key);
    if (item.state === "discarded") {
      conversation.entries = conversation.entries.filter((entry) => entry !== known);
      return this.#changed({ room: item.room });
    }
    const entry = known ?? {
      key,
      seq: null,
      mid: item.id,
      from: this.me,
      ts: item.at,
      text: item.body.text,
      own: true,
      state: /** @type {const} */ ("sending"),
    };
    if (entry.seq !== null) return;
    entry.error = item.error?.message;
    entry.state = item.state === "failed" || item.state === "sent" ? item.state : "sending";
    if (item.ack) {
      entry.seq = item.ack.seq;
      entry.ts = item.ack.ts;
    }
    if (!known) conversation.entries.push(entry);
    conversation.touched = Math.max(conversation.touched, entry.ts);
    sort(conversation);
    this.#changed({ room: item.room });
  }

  /**
   * @param {Conversation} conversation
   * @param {import("../chat-client.d.ts").Message} message
   */
  #put(conversation, { seq, mid, from, ts, body, own }) {
    const key = keyOf(from, mid);
    let entry = conversation.entries.find((known) => known.key === key);
    if (!entry) {
      entry = { key, seq, mid, from, ts, text: body.text, own, state: own ? "sent" : "received" };
      conversation.entries.push(entry);
    }
    Object.assign(entry, { seq, ts, state: own ? "sent" : "received", error: undefined });
    sort(conversation);
    return entry;
  }

  /**
   * @param {Conversation} conversation
   * @param {import("../chat-client.d.ts").Message[]} messages
   */
  #merge(conversation, messages) {
    for (const message of messages) {
      this.#put(conversation, message);
      conversation.touched = Math.max(conversation.touched, message.ts);
      if (message.own && message.seq > conversation.read) this.#setRead(conversation, message.seq);
    }
    this.#headMoved(conversation, messages.at(-1)?.seq ?? 0);
  }

  /**
   * @param {Conversation} conversation
   * @param {number} seq
   */
  #setRead(conversation, seq) {
    if (seq <= conversation.read) return;
    conversation.read = seq;
    this.#marks.set(conversation.room, seq);
  }

  /**
   * Only an unbroken run of messages may be on screen, so what is before a gap goes.
   * @param {string} room
   * @param {number} seq
   */
  #forgetUpTo(room, seq) {
    const conversation = this.#all.get(room);
    if (!conversation) return;
    conversation.entries = conversation.entries.filter((entry) => entry.seq === null || entry.seq > seq);
    conversation.older = true;
    this.#changed({ room });
  }

  /** @param {string} room */
  #reset(room) {
    const conversation = this.#all.get(room);
    if (!conversation) return;
    conversation.entries = conversation.entries.filter((entry) => entry.seq === null);
    Object.assign(conversation, { head: 0, read: 0, newFrom: null, older: false, loaded: true });
    this.#marks.set(room, undefined);
    this.#changed({ room });
  }

  /**
   * Forgets what is far above where nobody is looking; scrolling up fetches it again.
   * @param {string} room
   */
  trim(room) {
    const conversation = this.#all.get(room);
    if (!conversation || conversation.entries.length <= 2 * KEPT) return;
    conversation.entries.splice(0, conversation.entries.length - KEPT);
    conversation.older = true;
  }
}

/** @param {Conversation} conversation */
export function unread({ head, read }) {
  return Math.max(0, head - read);
}

/**
 * Ids are unique per sender only.
 * @param {string} from
 * @param {string} mid
 */
function keyOf(from, mid) {
  return `${from} ${mid}`;
}

/** @param {Conversation} conversation */
function sort({ entries }) {
  entries.sort((a, b) => {
    if (a.seq !== null && b.seq !== null) return a.seq - b.seq;
    if (a.seq === null && b.seq === null) return a.ts - b.ts;
    return a.seq === null ? 1 : -1;
  });
}
