// A client of the chat.v1 protocol: rooms, ordered and complete delivery, an outbox that loses nothing, presence.
// Runs in browsers and in Node; chat-client.d.ts describes everything public, README.md shows how to use it.

import { Connection } from "./chat-client/connection.js";
import { Delivery } from "./chat-client/delivery.js";
import { SECOND, backoff, systemClock } from "./chat-client/clock.js";
import { Emitter } from "./chat-client/emitter.js";
import { ChatError } from "./chat-client/error.js";
import { LIMITS, directPeer, directRoom, isName, newId, textLength } from "./chat-client/names.js";
import { Presence } from "./chat-client/presence.js";
import { Outbox } from "./chat-client/outbox.js";
import { Room } from "./chat-client/room.js";

export { ChatError, LIMITS, directPeer, directRoom, isName, newId, textLength };

const REQUEST_TIMEOUT = 10 * SECOND;
/** How long join, history and who keep trying, reconnects included, before they give up. */
const CALL_TIMEOUT = 30 * SECOND;
const MAX_CATCH_UP = 500;
const SAVE_DELAY = 0.2 * SECOND;

/** For failures that somebody else tells, or that the next connection mends. */
const ignore = () => {};

/** @typedef {import("./chat-client.d.ts").Outgoing} Outgoing */

export class ChatClient {
  #options;
  #clock;
  #emitter = new Emitter();
  #connection;
  #delivery;
  #outbox;
  #presence;
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {string | undefined} */
  #user;
  #device;
  #lastId = 0;
  /** @type {unknown} */
  #saveTimer;

  /** @param {import("./chat-client.d.ts").ChatOptions} options */
  constructor(options) {
    if (options.token === undefined && !isName(options.user)) {
      throw new ChatError("BAD_REQUEST", "a user name is 1 to 64 of A-Z a-z 0-9 _ . : -");
    }
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#user = options.token === undefined ? options.user : undefined;
    this.#outbox = new Outbox(this.#clock, {
      link: () => this.#connection.link,
      catchUp: (name, uncertain) => this.#caughtUp(name, uncertain),
      rejoin: (room) => this.join(room).then(() => {}),
      refused: (error) => this.#connection.refused(error),
      changed: (item, more) => {
        this.#save();
        this.#emitter.emit("outgoing", { ...item, ...more });
      },
    });
    this.#delivery = new Delivery(this.#clock, options.maxCatchUp ?? MAX_CATCH_UP, {
      room: (name) => this.#rooms.get(name),
      call: (frame) => this.#call(frame),
      seen: (room, item) => this.#seen(room, item),
      deliver: (room, item) => this.#deliver(room, item),
      moved: (room) => this.#emitter.emit("room", this.#facts(room)),
      gap: (gap) => {
        this.#save({ soon: true });
        this.#emitter.emit("gap", gap);
      },
      reset: ({ name }) => this.#emitter.emit("reset", { room: name }),
    });
    this.#presence = new Presence(this.#clock, (change) => this.#emitter.emit("presence", change));
    this.#connection = new Connection(this.#options, this.#clock, {
      hello: () => this.#hello(),
      probe: () => this.#probe(),
      probed: (answer) => this.#probed(answer),
      frame: (frame) => this.#frame(frame),
      online: (welcome) => this.#online(welcome),
      state: (change) => this.#emitter.emit("state", change),
    });
    this.#device = options.device;
    this.#restore();
  }

  get state() {
    return this.#connection.state;
  }

  /** Who the server says this is; in open mode known from the start. */
  get user() {
    return this.#user;
  }

  get outbox() {
    return this.#outbox.items;
  }

  get rooms() {
    return [...this.#rooms.values()].map((room) => this.#facts(room));
  }

  /**
   * @param {string} type
   * @param {Function} listener
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /** Starts, and keeps, the connection. Resolves when first online, rejects when that turns out to be impossible. */
  async connect() {
    this.#connection.start();
    await this.#connection.online(Infinity);
  }

  /** Ends the connection for good. What has not been sent stays in the outbox, and in the storage. */
  close() {
    this.flush();
    this.#connection.stop();
    for (const room of this.#rooms.values()) this.#delivery.forget(room);
    this.#presence.stop();
  }

  /** Looks at once whether the connection lives, or tries at once to get one. */
  wake() {
    this.#connection.wake();
  }

  /** @param {string} name */
  async join(name) {
    if (!isName(name)) throw new ChatError("BAD_REQUEST", `not a room name: ${name}`);
    const room = this.#room(name);
    room.wanted = true;
    try {
      return await this.#joined(room);
    } catch (error) {
      const { code, retry } = /** @type {ChatError} */ (error);
      if (!retry && code !== "CLOSED") this.#drop(room);
      throw error;
    }
  }

  /** @param {string} name */
  async leave(name) {
    const room = this.#rooms.get(name);
    if (!room) return;
    this.#outbox.abandon(name);
    this.#drop(room);
    // Whoever is not connected is in no room, so there is nobody to tell.
    if (room.direct || !this.#connection.link) return;
    await this.#call({ action: "leave", room: name }).catch((/** @type {ChatError} */ error) => {
      if (error.code !== "NOT_IN_ROOM") throw error;
    });
  }

  /**
   * Puts a message into the outbox and resolves with the server's ack, however many connections that takes.
   * @param {string} room a name, or a room of two
   * @param {string | { text: string }} body
   * @param {{ id?: string }} [more]
   */
  send(room, body, { id = newId(this.#clock.now()) } = {}) {
    const acked = this.#send(room, body, id);
    // Whoever prefers the event `outgoing` need not handle the promise.
    acked.catch(ignore);
    return acked;
  }

  /**
   * @param {string} room
   * @param {string | { text: string }} body
   * @param {string} id
   */
  async #send(room, body, id) {
    const content = typeof body === "string" ? { text: body } : body;
    const frame = { action: "send", id, room, body: content };
    if (textLength(content.text ?? "") > LIMITS.text) {
      throw new ChatError("TOO_LARGE", `a text has at most ${LIMITS.text} characters`);
    }
    if (new TextEncoder().encode(JSON.stringify(frame)).length > LIMITS.frameBytes) {
      throw new ChatError("TOO_LARGE", `a frame has at most ${LIMITS.frameBytes} bytes`);
    }
    const direct = room.startsWith("@");
    if (direct ? !this.#user || directPeer(room, this.#user) === null : !isName(room)) {
      throw new ChatError("BAD_REQUEST", `not a room to send to: ${room}`);
    }
    if (direct) this.#room(room);
    return this.#outbox.add({ id, room, body: content, at: this.#clock.now(), state: "queued", attempts: 0 });
  }

  /**
   * @param {string} peer
   * @param {string | { text: string }} body
   * @param {{ id?: string }} [more]
   */
  async sendTo(peer, body, more) {
    return this.send(await this.direct(peer), body, more);
  }

  /**
   * Opens the room of two with `peer`, so that it is resumed with every connection. Says its name.
   * @param {string} peer
   */
  async direct(peer) {
    if (!isName(peer)) throw new ChatError("BAD_REQUEST", `not a user name: ${peer}`);
    if (this.#user === undefined) await this.#connection.online(CALL_TIMEOUT);
    if (peer === this.#user) throw new ChatError("BAD_REQUEST", "a room of two needs two");
    const name = directRoom(/** @type {string} */ (this.#user), peer);
    this.#room(name);
    return name;
  }

  /**
   * @param {string} id of a message that failed
   */
  retry(id) {
    return this.#outbox.retry(id);
  }

  /** @param {string} id of a message that is not being sent at this moment */
  discard(id) {
    return this.#outbox.discard(id);
  }

  /**
   * @param {string} room
   * @param {{ before?: number, after?: number, limit?: number }} [range]
   */
  async history(room, { before, after, limit = 50 } = {}) {
    const batch = await this.#call({ action: "history", room, before, after, limit });
    const known = this.#rooms.get(room);
    if (known && before === undefined) {
      if (after === undefined) known.seq ??= batch.upto;
      this.#delivery.learn(known, batch.upto);
    }
    return this.#page(room, batch);
  }

  /** @param {string} name */
  async who(name) {
    if (this.#rooms.has(name)) this.#presence.watch(name);
    const { users = [] } = await this.#call({ action: "who", room: name });
    if (!this.#rooms.has(name)) return users;
    this.#presence.renew(name, users);
    return this.members(name);
  }

  /**
   * Who is online in a room, as far as known; those who left a moment ago count until their grace is over.
   * @param {string} room
   */
  members(room) {
    return this.#presence.members(room);
  }

  /** Hands the storage what it does not have yet, without the usual delay. */
  flush() {
    this.#clock.clearTimeout(this.#saveTimer);
    this.#saveTimer = undefined;
    const rooms = this.rooms.filter(({ joined, direct }) => joined || direct);
    this.#options.storage?.save({
      user: this.#user,
      rooms: rooms.map(({ room, joined }) => ({ room, seq: this.#rooms.get(room)?.seq ?? null, joined })),
      outbox: this.#outbox.items,
    });
  }

  // Connection

  /** @param {Room[]} [rooms] */
  #hello(rooms = this.#resumable().slice(0, LIMITS.resume)) {
    const resume = rooms.map(({ name, seq }) => ({ room: name, seq }));
    return { action: "hello", id: this.#nextId(), v: 1, device: this.#device, resume };
  }

  /** Rooms with a point to resume from. */
  #resumable() {
    return [...this.#rooms.values()].filter((room) => room.seq !== null && (room.wanted || room.direct));
  }

  /** The cheapest question that must be answered; a room's tail it is, since that also shows what was missed. */
  #probe() {
    const [room] = this.#resumable();
    if (!room) return this.#hello([]);
    return { action: "history", id: this.#nextId(), room: room.name, after: room.seq, limit: 1 };
  }

  /** @param {any} answer */
  #probed({ type, room, items, more }) {
    if (type !== "batch") return;
    this.#accept(room, items);
    if (more) void this.#caughtUp(room, true);
  }

  /** @param {any} welcome */
  #online(welcome) {
    this.#user = welcome.user ?? this.#user;
    this.#resumed(welcome);
    // A hello has room for so many; the others follow in further ones.
    const others = this.#resumable().slice(LIMITS.resume);
    for (let at = 0; at < others.length; at += LIMITS.resume) {
      const { id, ...hello } = this.#hello(others.slice(at, at + LIMITS.resume));
      this.#call(hello).then((more) => this.#resumed(more), ignore);
    }
    for (const room of this.#rooms.values()) {
      if (room.wanted && room.seq === null) this.#joined(room).catch(ignore);
    }
    for (const name of this.#presence.watched) this.who(name).catch(ignore);
    void this.#discover(welcome.direct ?? []);
    this.#emitter.emit("welcome", welcome);
    this.#outbox.pumpAll();
  }

  /** @param {any} welcome */
  #resumed({ rooms = [], refused = [] }) {
    for (const { room: name, head } of rooms) {
      const room = this.#rooms.get(name);
      if (room) this.#delivery.resumed(room, head);
    }
    for (const { room: name, code } of refused) {
      const room = this.#rooms.get(name);
      if (!room) continue;
      const error = new ChatError(code, `${name} could not be joined again`);
      if (code !== "UNAVAILABLE" && code !== "INTERNAL") this.#drop(room);
      this.#emitter.emit("refused", { room: name, error });
    }
  }

  /**
   * Rooms of two in which others spoke first while this client was away, or that it does not remember.
   * @param {string[]} names
   */
  async #discover(names) {
    for (const name of names) {
      if (this.#rooms.has(name)) continue;
      const room = this.#unasked(name);
      if (!room) continue;
      try {
        this.#start(room, await this.#latest(name));
      } catch {
        this.#drop(room);
      }
    }
  }

  /** @param {string} room */
  async #latest(room) {
    return this.#call({ action: "history", room, limit: 50 });
  }

  /**
   * Begins with the newest messages of a room.
   * @param {Room} room
   * @param {any} batch
   */
  #start(room, batch) {
    room.seq ??= (batch.items[0]?.seq ?? batch.upto + 1) - 1;
    this.#accept(room.name, batch.items);
    this.#save();
  }

  /** @param {Room} room */
  #joined(room) {
    room.joining ??= this.#joinNow(room).finally(() => (room.joining = null));
    return room.joining;
  }

  /** @param {Room} room */
  async #joinNow(room) {
    await this.#call({ action: "join", room: room.name });
    const batch = await this.#latest(room.name);
    if (this.#rooms.get(room.name) !== room) throw new ChatError("CLOSED", `${room.name} was left meanwhile`);
    const last = batch.items[batch.items.length - 1]?.seq ?? 0;
    room.seq ??= last;
    this.#delivery.learn(room, last);
    this.#save();
    return this.#page(room.name, batch);
  }

  /**
   * A question that may be asked again: sent when online, again after losses and retryable errors.
   * @param {any} frame
   */
  async #call(frame) {
    const until = this.#clock.now() + CALL_TIMEOUT;
    const id = this.#nextId();
    for (let attempt = 0; ; attempt += 1) {
      const link = await this.#connection.online(until - this.#clock.now());
      try {
        return await link.request({ ...frame, id }, REQUEST_TIMEOUT);
      } catch (cause) {
        const error = /** @type {ChatError} */ (cause);
        const refused = this.#connection.refused(error);
        const wait = refused || !link.up ? 0 : Math.max(error.retryMs ?? 0, backoff(this.#clock, attempt));
        if (!(error.retry || refused) || this.#clock.now() + wait >= until) throw error;
        if (wait > 0) await this.#sleep(wait);
      }
    }
  }

  // Frames

  /** @param {any} frame */
  #frame(frame) {
    switch (frame.type) {
      case "message":
        this.#spoke(frame);
        return this.#accept(frame.room, [frame]);
      case "batch":
        // The answer to a history belongs to whoever asked; without an id it is what a resumed room missed.
        if (frame.id === undefined) this.#accept(frame.room, frame.items ?? []);
        return;
      case "presence":
        return this.#presenceChanged(frame);
      case "error":
        if (frame.id === undefined) this.#emitter.emit("error", ChatError.fromFrame(frame));
        return;
      case "bye":
        return this.#emitter.emit("bye", frame);
      default:
        return;
    }
  }

  /**
   * @param {unknown} name
   * @param {any[]} items
   */
  #accept(name, items) {
    if (typeof name !== "string") return;
    const room = this.#rooms.get(name) ?? this.#unasked(name);
    if (room) this.#delivery.accept(room, items);
  }

  /**
   * A room that speaks first: somebody's direct message. Named rooms only speak to those who joined.
   * @param {string} name
   */
  #unasked(name) {
    if (this.#user === undefined || directPeer(name, this.#user) === null) return undefined;
    return this.#room(name);
  }

  /**
   * One's own message coming by proves that it is stored, even when its turn to be shown has not come.
   * @param {Room} room
   * @param {any} item
   */
  #seen(room, { from, mid, seq, ts }) {
    if (from !== this.#user) return;
    this.#outbox.delivered(mid, { type: "ack", id: mid, room: room.name, seq, ts, dup: false });
  }

  /**
   * @param {Room} room
   * @param {any} item
   */
  #deliver(room, item) {
    this.#save({ soon: true });
    this.#emitter.emit("message", this.#message(room.name, item));
  }

  /**
   * @param {string} room
   * @param {any} item
   */
  #message(room, { seq, from, mid, ts, body }) {
    return { room, seq, from, mid, ts, body, own: from === this.#user };
  }

  /**
   * @param {string} room
   * @param {any} batch
   */
  #page(room, batch) {
    return {
      room,
      messages: batch.items.map((/** @type {any} */ item) => this.#message(room, item)),
      more: batch.more,
    };
  }

  /**
   * @param {string} name
   * @param {boolean} ask
   */
  async #caughtUp(name, ask) {
    const room = this.#rooms.get(name);
    if (room) await this.#delivery.caughtUp(room, ask);
  }

  /**
   * Who speaks is here. In a room of two nobody would say when they go, so there this proves nothing for long.
   * @param {any} frame
   */
  #spoke({ room: name, from }) {
    const room = this.#rooms.get(name);
    if (room && !room.direct && from !== this.#user) this.#presence.arrived(name, from);
  }

  /** @param {any} frame */
  #presenceChanged({ room, user, state, grace_ms: grace }) {
    if (!this.#rooms.has(room) || typeof user !== "string") return;
    if (state === "online") this.#presence.arrived(room, user);
    else if (user !== this.#user) this.#presence.leaving(room, user, grace >= 0 ? grace : undefined);
  }

  // Rooms and storage

  /** @param {string} name */
  #room(name) {
    let room = this.#rooms.get(name);
    if (!room) {
      room = new Room(name);
      this.#rooms.set(name, room);
      this.#save();
      this.#emitter.emit("room", this.#facts(room));
    }
    return room;
  }

  /** @param {Room} room */
  #facts({ name, seq, head, wanted, direct }) {
    return { room: name, seq: seq ?? 0, head, joined: wanted, direct };
  }

  /** @param {Room} room */
  #drop(room) {
    room.wanted = false;
    this.#delivery.forget(room);
    this.#presence.forget(room.name);
    this.#rooms.delete(room.name);
    this.#save();
  }

  #restore() {
    const saved = this.#options.storage?.load();
    if (!saved || (this.#user !== undefined && saved.user !== undefined && saved.user !== this.#user)) return;
    this.#user ??= saved.user;
    for (const { room: name, seq, joined } of saved.rooms ?? []) {
      const room = new Room(name);
      room.seq = seq;
      room.head = seq ?? 0;
      room.wanted = joined;
      this.#rooms.set(name, room);
    }
    this.#outbox.restore(saved.outbox ?? []);
  }

  /** @param {{ soon?: boolean }} [how] positions may lag, since resuming from an older one loses nothing */
  #save({ soon = false } = {}) {
    if (!this.#options.storage) return;
    if (!soon) return this.flush();
    this.#saveTimer ??= this.#clock.setTimeout(() => this.flush(), SAVE_DELAY);
  }

  #nextId() {
    this.#lastId += 1;
    return String(this.#lastId);
  }

  /** @param {number} ms */
  #sleep(ms) {
    return new Promise((resolve) => this.#clock.setTimeout(() => resolve(undefined), ms));
  }
}
