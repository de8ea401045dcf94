// A clock that tests turn by hand, sockets without a network, and a small server behind them that keeps the rules of
// chat.v1 and can be told to misbehave.

export class FakeClock {
  #now = 1_700_000_000_000;
  #next = 1;
  #timers = new Map();
  /** What random() answers. */
  chance = 0.5;

  now = () => this.#now;
  random = () => this.chance;
  setTimeout = (run, ms) => {
    const id = this.#next++;
    this.#timers.set(id, { at: this.#now + Math.max(0, ms), run });
    return id;
  };
  clearTimeout = (id) => void this.#timers.delete(id);

  get pending() {
    return this.#timers.size;
  }

  /** Lets everything that is already under way run, then moves on from timer to timer. */
  async advance(ms) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      let due;
      for (const [id, timer] of this.#timers) {
        if (timer.at <= end && (!due || timer.at < due.timer.at)) due = { id, timer };
      }
      if (!due) break;
      this.#timers.delete(due.id);
      this.#now = Math.max(this.#now, due.timer.at);
      due.timer.run();
      await settle();
    }
    this.#now = end;
  }
}

/** Lets promises and sockets finish what they have begun: an exchange takes a few turns of the event loop. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeServer {
  clock;
  /** Every socket ever opened, oldest first. */
  sockets = [];
  /** Every frame received, oldest first. */
  received = [];
  rooms = new Map();
  /** Refuses connections while false. */
  listening = true;
  /** Seconds since 1970, for the next welcomes. */
  expires = 2_000_000_000;
  /** Seconds, for the next welcomes. */
  heartbeat = 540;
  /** Called before a frame is handled; answer `true` to have it ignored. */
  intercept = () => false;
  /** Posts of a message go here instead, if set. */
  post = null;

  constructor(clock) {
    this.clock = clock;
    const server = this;
    this.WebSocket = class {
      constructor(url, protocols) {
        return new FakeSocket(server, url, protocols);
      }
    };
  }

  get open() {
    return this.sockets.filter((socket) => socket.state === "open");
  }

  frames(action) {
    return this.received.filter((frame) => frame.action === action);
  }

  room(name) {
    if (!this.rooms.has(name)) this.rooms.set(name, { log: [], members: new Set() });
    return this.rooms.get(name);
  }

  /** Somebody says something. */
  say(name, from, text, mid = `m-${name}-${from}-${text}`) {
    const { log } = this.room(name);
    const item = {
      room: name,
      seq: (log.at(-1)?.seq ?? 0) + 1,
      from,
      mid,
      ts: this.clock.now(),
      body: { text },
    };
    log.push(item);
    this.#post(name, { type: "message", ...item });
    return item;
  }

  /** Stores without telling anybody. */
  store(name, from, text) {
    const { post } = this;
    this.post = () => {};
    const item = this.say(name, from, text);
    this.post = post;
    return item;
  }

  #post(name, frame) {
    if (this.post) return this.post(name, frame);
    const pair = name.startsWith("@") ? name.slice(1).split(",") : null;
    for (const socket of this.open) {
      if (pair ? pair.includes(socket.user) : this.room(name).members.has(socket)) socket.deliver(frame);
    }
  }

  handle(socket, frame) {
    this.received.push(frame);
    if (this.intercept(frame, socket)) return;
    const { id, room: name } = frame;
    switch (frame.action) {
      case "hello": {
        const heads = [];
        for (const { room, seq } of frame.resume) {
          const { log, members } = this.room(room);
          members.add(socket);
          const head = log.at(-1)?.seq ?? 0;
          heads.push({ room, head });
          if (head > seq) socket.deliver({ type: "batch", ...this.page(room, seq, 100) });
        }
        const direct = [...this.rooms.keys()].filter(
          (room) => room.startsWith("@") && this.room(room).log.length > 0,
        );
        const { user, number } = socket;
        const { expires, heartbeat } = this;
        const known = { v: 1, user, name: user, conn: `c${number}`, heartbeat, expires, max_bytes: 16384 };
        return socket.deliver({ type: "welcome", id, ...known, rooms: heads, direct });
      }
      case "join":
        this.room(name).members.add(socket);
        return socket.deliver({ type: "ack", id, room: name });
      case "leave":
        this.room(name).members.delete(socket);
        return socket.deliver({ type: "ack", id, room: name });
      case "send": {
        const { log, members } = this.room(name);
        if (!name.startsWith("@") && !members.has(socket)) {
          return socket.deliver({
            type: "error",
            id,
            code: "NOT_IN_ROOM",
            message: "not in the room",
            retry: false,
          });
        }
        // As on the real server, the memory for ids is the tail of the room.
        const stored = log.slice(-20).find((item) => item.mid === id && item.from === socket.user);
        const { seq, ts } = stored ?? this.say(name, socket.user, frame.body.text, id);
        return socket.deliver({ type: "ack", id, room: name, seq, ts, dup: stored !== undefined });
      }
      case "history":
        if (frame.after !== undefined)
          return socket.deliver({ type: "batch", id, ...this.page(name, frame.after, frame.limit) });
        return socket.deliver({
          type: "batch",
          id,
          ...this.newest(name, frame.before ?? Infinity, frame.limit),
        });
      case "who": {
        const users = [
          ...new Set(
            [...this.room(name).members].filter((one) => one.state === "open").map((one) => one.user),
          ),
        ];
        return socket.deliver({ type: "who", id, room: name, users: users.sort(), more: false });
      }
    }
  }

  page(room, after, limit) {
    const newer = this.room(room).log.filter((item) => item.seq > after);
    const items = newer.slice(0, limit);
    return { room, items, upto: items.at(-1)?.seq ?? after, more: newer.length > items.length };
  }

  newest(room, before, limit) {
    const older = this.room(room).log.filter((item) => item.seq < before);
    const items = older.slice(-limit);
    return { room, items, upto: items.at(-1)?.seq ?? 0, more: older.length > items.length };
  }
}

class FakeSocket {
  state = "connecting";
  /** Swallows everything, both ways, as a cable that was pulled does. */
  dead = false;
  closedWith = null;

  constructor(server, url, protocols) {
    this.server = server;
    this.url = url;
    this.protocols = protocols;
    this.number = server.sockets.push(this);
    this.user = new URL(url).searchParams.get("user") ?? "token-user";
    setImmediate(() => {
      if (this.state !== "connecting") return;
      if (!server.listening) return this.end(1006);
      this.state = "open";
      this.onopen?.();
    });
  }

  send(text) {
    if (this.state !== "open") throw new Error(`sent while ${this.state}`);
    if (!this.dead) queueMicrotask(() => this.server.handle(this, JSON.parse(text)));
  }

  /** From the server to the client. */
  deliver(frame) {
    queueMicrotask(() => {
      if (this.state === "open" && !this.dead) this.onmessage?.({ data: JSON.stringify(frame) });
    });
  }

  /** Closed by the client. */
  close(code) {
    this.closedWith ??= code;
    this.#leave();
  }

  /** Closed by the server or the network. */
  end(code = 1006, reason = "") {
    this.#leave();
    this.onclose?.({ code, reason });
  }

  #leave() {
    this.state = "closed";
    for (const { members } of this.server.rooms.values()) members.delete(this);
  }
}

/** A storage that behaves like one page's: JSON in, JSON out. */
export class FakeStorage {
  saved = null;
  load = () => (this.saved === null ? null : JSON.parse(this.saved));
  save = (state) => void (this.saved = JSON.stringify(state));
}
