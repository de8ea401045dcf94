// What the client promises, each as a sentence: complete and ordered delivery, sends that survive anything, presence.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatClient, LIMITS, directPeer, directRoom, isName, newId, textLength } from "../chat-client.js";
import { FakeClock, FakeServer, FakeStorage } from "./fakes.mjs";

const MINUTE = 60_000;

function setUp(options = {}) {
  const clock = new FakeClock();
  const server = new FakeServer(clock);
  return { clock, server, ...client(clock, server, options) };
}

/** A client of its own on an existing server, with everything it emits in `seen`. */
function client(clock, server, options = {}) {
  const chat = new ChatClient({
    url: "ws://127.0.0.1:1/api/local",
    user: "alice",
    WebSocket: server.WebSocket,
    clock,
    ...options,
  });
  const seen = {
    message: [],
    state: [],
    outgoing: [],
    presence: [],
    gap: [],
    reset: [],
    refused: [],
    error: [],
  };
  for (const type of Object.keys(seen)) chat.on(type, (detail) => seen[type].push(detail));
  return { chat, seen, texts: () => seen.message.map(({ body }) => body.text) };
}

async function online({ chat, clock }) {
  chat.connect().catch(() => {});
  await clock.advance(0);
  assert.equal(chat.state, "online");
}

async function joined(world, room = "lobby") {
  await online(world);
  const page = world.chat.join(room);
  await world.clock.advance(0);
  return page;
}

test("a name is 1 to 64 of the allowed characters, and the room of two is the same from both sides", () => {
  assert.ok(isName("a.b:c_d-9"));
  for (const bad of ["", "a b", "a,b", "@a", "a#b", "ä", "x".repeat(65), null, 7]) assert.ok(!isName(bad));
  assert.equal(directRoom("bob", "alice"), "@alice,bob");
  assert.equal(directRoom("alice", "bob"), "@alice,bob");
  assert.equal(directRoom("a", "B"), "@B,a");
  assert.equal(directPeer("@alice,bob", "bob"), "alice");
  for (const no of ["@alice,bob,carol", "@bob,alice", "@carol,dave", "alice", "@alice"])
    assert.equal(directPeer(no, "alice"), null);
});

test("ids are names, differ, and sort by age", () => {
  const ids = [newId(1), newId(2), newId(300)];
  assert.ok(ids.every(isName));
  assert.deepEqual([...ids].sort(), ids);
  assert.notEqual(newId(5), newId(5));
});

test("open mode says who it is in the query, token mode in the second subprotocol, asked for at every connect", async () => {
  const open = setUp();
  await online(open);
  assert.equal(open.server.sockets[0].url, "ws://127.0.0.1:1/api/local?user=alice");
  assert.deepEqual(open.server.sockets[0].protocols, ["chat.v1"]);

  let asked = 0;
  const token = setUp({ user: undefined, token: async () => `jwt${++asked}` });
  await online(token);
  token.server.sockets[0].end(1001);
  await token.clock.advance(1_000);
  assert.deepEqual(
    token.server.sockets.map(({ protocols }) => protocols[1]),
    ["bearer.jwt1", "bearer.jwt2"],
  );
  assert.equal(token.chat.user, "token-user");
});

test("an address that moves is followed, and one that cannot be had is asked for again", async () => {
  const urls = ["ws://127.0.0.1:1/old/local", null, "ws://127.0.0.1:1/new/local"];
  const url = () => urls.shift() ?? Promise.reject(new Error("not now"));
  const world = setUp({ url });
  await online(world);
  world.server.sockets[0].end(1006);
  await world.clock.advance(3_000);
  assert.deepEqual(
    world.server.sockets.map((socket) => new URL(socket.url).pathname),
    ["/old/local", "/new/local"],
  );
  assert.equal(world.chat.state, "online");
});

test("joining says what was said last, and only what comes after is delivered", async () => {
  const world = setUp();
  for (const text of ["one", "two"]) world.server.store("lobby", "bob", text);
  const page = await joined(world);
  assert.deepEqual(
    page.messages.map(({ body }) => body.text),
    ["one", "two"],
  );
  assert.equal(page.more, false);
  world.server.say("lobby", "bob", "three");
  await world.clock.advance(0);
  assert.deepEqual(world.texts(), ["three"]);
});

test("messages that overtake each other are delivered in order, without asking for history", async () => {
  const world = setUp();
  await joined(world);
  const before = world.server.frames("history").length;
  const late = [];
  world.server.post = (_, frame) => late.push(frame);
  for (const text of ["a", "b", "c"]) world.server.say("lobby", "bob", text);
  for (const index of [2, 0, 0, 1, 2]) world.server.open[0].deliver(late[index]);
  await world.clock.advance(5_000);
  assert.deepEqual(world.texts(), ["a", "b", "c"]);
  assert.equal(world.server.frames("history").length, before);
});

test("a gap that stays is filled from history, and what waited behind it follows", async () => {
  const world = setUp();
  await joined(world);
  world.server.store("lobby", "bob", "lost");
  world.server.say("lobby", "bob", "seen");
  await world.clock.advance(100);
  assert.deepEqual(world.texts(), [], "the gap is given a moment to close");
  await world.clock.advance(400);
  assert.deepEqual(world.texts(), ["lost", "seen"]);
  assert.equal(world.server.frames("history").at(-1).after, 0);
});

test("a gap that history cannot fill is passed over, said, and holds up nothing", async () => {
  const world = setUp();
  await joined(world);
  world.server.say("lobby", "bob", "first");
  world.server.store("lobby", "bob", "expired");
  world.server.room("lobby").log.splice(1, 1);
  world.server
    .room("lobby")
    .log.push({ room: "lobby", seq: 3, from: "bob", mid: "m3", ts: 1, body: { text: "third" } });
  for (const item of world.server.room("lobby").log)
    world.server.open[0].deliver({ type: "message", ...item });
  await world.clock.advance(20_000);
  assert.deepEqual(world.texts(), ["first", "third"]);
  assert.deepEqual(world.seen.gap, [{ room: "lobby", from: 2, to: 2 }]);
});

test("after a reconnect the room is resumed from the last seq, nothing is missing and nothing comes twice", async () => {
  const world = setUp();
  await joined(world);
  world.server.say("lobby", "bob", "before");
  await world.clock.advance(0);
  world.server.sockets[0].end(1006);
  for (let n = 1; n <= 130; n += 1) world.server.store("lobby", "bob", `missed ${n}`);
  await world.clock.advance(2_000);
  assert.deepEqual(world.server.frames("hello").at(-1).resume, [{ room: "lobby", seq: 1 }]);
  world.server.say("lobby", "bob", "after");
  await world.clock.advance(2_000);
  const expected = ["before", ...Array.from({ length: 130 }, (_, n) => `missed ${n + 1}`), "after"];
  assert.deepEqual(world.texts(), expected);
  assert.deepEqual(
    world.seen.message.map(({ seq }) => seq),
    expected.map((_, n) => n + 1),
  );
});

test("too much to catch up with becomes a gap and the newest page", async () => {
  const world = setUp({ maxCatchUp: 200 });
  await joined(world);
  world.server.sockets[0].end(1006);
  for (let n = 1; n <= 1_000; n += 1) world.server.store("lobby", "bob", `${n}`);
  await world.clock.advance(3_000);
  assert.equal(world.seen.gap.length, 1);
  assert.equal(world.seen.message.at(-1).seq, 1_000);
  const { from, to } = world.seen.gap[0];
  const got = new Set(world.seen.message.map(({ seq }) => seq));
  for (let seq = 1; seq <= 1_000; seq += 1)
    assert.notEqual(got.has(seq), seq >= from && seq <= to, `seq ${seq}`);
});

test("more rooms than one hello may name are resumed in further ones", async () => {
  const world = setUp();
  await online(world);
  const names = Array.from({ length: 30 }, (_, n) => `room-${n}`);
  for (const name of names) world.chat.join(name);
  await world.clock.advance(0);
  world.server.sockets[0].end(1006);
  for (const name of names) world.server.store(name, "bob", name);
  await world.clock.advance(2_000);
  const hellos = world.server.frames("hello").slice(1);
  assert.ok(hellos.every(({ resume }) => resume.length <= LIMITS.resume));
  assert.deepEqual(world.texts().sort(), [...names].sort());
});

test("a room that began anew is read from the start; a head read too early is not taken for that", async () => {
  const world = setUp();
  await joined(world);
  for (const text of ["a", "b", "c"]) world.server.say("lobby", "bob", text);
  await world.clock.advance(0);

  world.server.intercept = (frame, socket) => {
    if (frame.action !== "hello") return false;
    const stale = {
      type: "welcome",
      id: frame.id,
      v: 1,
      user: "alice",
      heartbeat: 540,
      expires: 2e9,
      direct: [],
    };
    world.server.room("lobby").members.add(socket);
    socket.deliver({ ...stale, rooms: [{ room: "lobby", head: 2 }] });
    return true;
  };
  world.server.sockets[0].end(1006);
  await world.clock.advance(5_000);
  assert.deepEqual(world.seen.reset, []);

  world.server.intercept = () => false;
  world.server.sockets[1].end(1006);
  world.server.rooms.clear();
  world.server.store("lobby", "bob", "new first");
  await world.clock.advance(5_000);
  assert.deepEqual(world.seen.reset, [{ room: "lobby" }]);
  assert.deepEqual(world.texts(), ["a", "b", "c", "new first"]);
});

test("a room that refuses to be resumed is dropped, and said", async () => {
  const world = setUp();
  await joined(world);
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "hello") return false;
    const welcome = {
      type: "welcome",
      id: frame.id,
      v: 1,
      user: "alice",
      heartbeat: 540,
      expires: 2e9,
      direct: [],
      rooms: [],
    };
    socket.deliver({ ...welcome, refused: [{ room: "lobby", code: "FORBIDDEN" }] });
    return true;
  };
  world.server.sockets[0].end(1006);
  await world.clock.advance(2_000);
  assert.equal(world.seen.refused[0].error.code, "FORBIDDEN");
  assert.deepEqual(world.chat.rooms, []);
});

test("sends to a room go out one at a time and in order, to other rooms at the same time", async () => {
  const world = setUp();
  await joined(world);
  await joined(world, "other");
  const waiting = [];
  world.server.intercept = (frame, socket) => frame.action === "send" && waiting.push({ frame, socket });
  for (const text of ["1", "2", "3"]) world.chat.send("lobby", text);
  world.chat.send("other", "x");
  await world.clock.advance(0);
  assert.deepEqual(
    waiting.map(({ frame }) => frame.body.text),
    ["1", "x"],
  );
  world.server.intercept = () => false;
  for (const { frame, socket } of waiting) world.server.handle(socket, frame);
  await world.clock.advance(0);
  assert.deepEqual(
    world.server.room("lobby").log.map(({ body }) => body.text),
    ["1", "2", "3"],
  );
});

test("what is written without a connection is sent when there is one, in order", async () => {
  const world = setUp();
  await joined(world);
  world.server.listening = false;
  world.server.sockets[0].end(1006);
  const acks = ["1", "2"].map((text) => world.chat.send("lobby", text));
  await world.clock.advance(20_000);
  assert.equal(world.chat.outbox.length, 2);
  world.server.listening = true;
  await world.clock.advance(60_000);
  assert.deepEqual(
    (await Promise.all(acks)).map(({ seq }) => seq),
    [1, 2],
  );
  assert.deepEqual(world.texts(), ["1", "2"]);
  assert.deepEqual(world.chat.outbox, []);
});

test("a send whose answer was lost is sent again under the same id and stored once", async () => {
  const world = setUp();
  await joined(world);
  world.server.post = () => {};
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "send") return false;
    world.server.intercept = () => false;
    world.server.store("lobby", "alice", "hello");
    world.server.room("lobby").log.at(-1).mid = frame.id;
    socket.end(1006);
    return true;
  };
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(3_000);
  assert.equal((await ack).seq, 1);
  assert.equal(world.server.room("lobby").log.length, 1);
  assert.deepEqual(world.texts(), ["hello"]);
});

test("a send that was stored longer ago than the server remembers is found in the room, not sent again", async () => {
  const world = setUp();
  await joined(world);
  let sends = 0;
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "send") return false;
    sends += 1;
    if (sends === 1) {
      world.server.store("lobby", "alice", "hello");
      world.server.room("lobby").log.at(-1).mid = frame.id;
      for (let n = 0; n < 40; n += 1) world.server.store("lobby", "bob", `${n}`);
      socket.deliver({ message: "Internal server error", connectionId: "c", requestId: "r" });
      return true;
    }
    return false;
  };
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(10_000);
  assert.equal((await ack).seq, 1);
  assert.equal(sends, 1);
  assert.equal(world.texts().filter((text) => text === "hello").length, 1);
});

test("after a reconnect a send waits until the room is complete, for it may be in there already", async () => {
  const world = setUp();
  await joined(world);
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "send") return false;
    world.server.intercept = () => false;
    for (let n = 1; n <= 300; n += 1) {
      world.server.store("lobby", n === 200 ? "alice" : "bob", `${n}`);
      if (n === 200) world.server.room("lobby").log.at(-1).mid = frame.id;
    }
    socket.end(1006);
    return true;
  };
  const ack = world.chat.send("lobby", "200");
  await world.clock.advance(5_000);
  assert.equal((await ack).seq, 200);
  assert.equal(world.server.frames("send").length, 1);
  assert.equal(world.texts().length, 300);
});

test("one's own message coming by counts as the ack, should the ack be lost", async () => {
  const world = setUp();
  await joined(world);
  world.server.intercept = (frame) => {
    if (frame.action !== "send") return false;
    world.server.say("lobby", "alice", frame.body.text, frame.id);
    return true;
  };
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(0);
  assert.equal((await ack).seq, 1);
  assert.equal(world.seen.outgoing.at(-1).state, "sent");
});

test("a retryable refusal waits as long as the server says, a final one fails and lets the next pass", async () => {
  const world = setUp();
  await joined(world);
  const at = [];
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "send") return false;
    if (frame.body.text === "bad") {
      socket.deliver({ type: "error", id: frame.id, code: "BAD_REQUEST", message: "no", retry: false });
      return true;
    }
    at.push(world.clock.now());
    if (at.length > 1) return false;
    socket.deliver({
      type: "error",
      id: frame.id,
      code: "RATE_LIMITED",
      message: "slow down",
      retry: true,
      retry_ms: 4_000,
    });
    return true;
  };
  const acks = [
    world.chat.send("lobby", "slow"),
    world.chat.send("lobby", "bad"),
    world.chat.send("lobby", "good"),
  ];
  await world.clock.advance(10_000);
  assert.ok(at[1] - at[0] >= 4_000, `waited ${at[1] - at[0]} ms`);
  assert.equal((await acks[0]).seq, 1);
  await assert.rejects(acks[1], { code: "BAD_REQUEST" });
  assert.equal((await acks[2]).seq, 2);
  const [failed] = world.chat.outbox;
  assert.deepEqual([failed.state, failed.error.code], ["failed", "BAD_REQUEST"]);

  world.server.intercept = () => false;
  assert.ok(world.chat.retry(failed.id));
  await world.clock.advance(0);
  assert.equal(world.server.room("lobby").log.at(-1).mid, failed.id);
  assert.deepEqual(world.chat.outbox, []);
});

test("a message that is refused again and again fails in the end, and can be tried again", async () => {
  const world = setUp();
  await joined(world);
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "send") return false;
    const code = "UNAVAILABLE";
    socket.deliver({ type: "error", id: frame.id, code, message: "later", retry: true, retry_ms: 100 });
    return true;
  };
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(MINUTE);
  await assert.rejects(ack, { code: "UNAVAILABLE" });
  assert.equal(world.server.frames("send").length, 10);
  world.server.intercept = () => false;
  world.chat.retry(world.chat.outbox[0].id);
  await world.clock.advance(0);
  assert.deepEqual(world.texts(), ["hello"]);
});

test("a send to a room that the server has forgotten joins it again and is sent", async () => {
  const world = setUp();
  await joined(world);
  world.server.room("lobby").members.clear();
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(5_000);
  assert.equal((await ack).seq, 1);
  assert.equal(world.server.frames("join").length, 2);
});

test("the gateway's error ends the wait for an answer early", async () => {
  const world = setUp();
  await joined(world);
  let failures = 1;
  world.server.intercept = (frame, socket) => {
    if (frame.action !== "send" || failures-- <= 0) return false;
    socket.deliver({ message: "Internal server error", connectionId: "c", requestId: "r" });
    return true;
  };
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(4_000);
  assert.equal((await ack).seq, 1);
});

test("what is too long is refused before it is sent, counted in characters", async () => {
  const world = setUp();
  await joined(world);
  assert.equal(textLength("👍é"), 2);
  await assert.rejects(world.chat.send("lobby", "👍".repeat(4_001)), { code: "TOO_LARGE" });
  await assert.rejects(world.chat.send("lobby", { text: "x", more: "y".repeat(17_000) }), {
    code: "TOO_LARGE",
  });
  await assert.rejects(world.chat.send("@bob,carol", "x"), { code: "BAD_REQUEST" });
  const ack = world.chat.send("lobby", "é".repeat(4_000));
  await world.clock.advance(0);
  assert.equal((await ack).seq, 1);
  assert.equal(world.server.frames("send").length, 1);
});

test("a new page goes on where the old one stopped: unsent messages are sent, rooms resumed", async () => {
  const storage = new FakeStorage();
  const world = setUp({ storage });
  await joined(world);
  world.server.say("lobby", "bob", "seen");
  await world.clock.advance(1_000);
  world.server.listening = false;
  world.server.sockets[0].end(1006);
  world.chat.send("lobby", "unsent 1");
  world.chat.send("lobby", "unsent 2");
  world.chat.send("@alice,bob", "unsent 3");
  await world.clock.advance(0);
  // The page vanishes without a word.
  world.chat.close = () => assert.fail("a crash closes nothing");
  world.server.store("lobby", "bob", "missed");
  world.server.listening = true;

  const clock = new FakeClock();
  world.server.clock = clock;
  const next = client(clock, world.server, { storage });
  assert.equal(next.chat.outbox.length, 3);
  next.chat.connect();
  await clock.advance(2_000);
  assert.deepEqual(
    next.texts().filter((text) => text !== "unsent 3"),
    ["missed", "unsent 1", "unsent 2"],
  );
  assert.deepEqual(
    world.server.room("@alice,bob").log.map(({ body }) => body.text),
    ["unsent 3"],
  );
  assert.deepEqual(next.chat.outbox, []);
  assert.deepEqual(storage.load().outbox, []);
});

test("somebody else's storage is not used", () => {
  const storage = new FakeStorage();
  storage.save({ user: "bob", rooms: [{ room: "lobby", seq: 4, joined: true }], outbox: [] });
  assert.deepEqual(setUp({ storage }).chat.rooms, []);
});

test("direct messages arrive without joining, and those that came while away are found", async () => {
  const world = setUp();
  for (let n = 1; n <= 3; n += 1) world.server.store("@alice,bob", "bob", `away ${n}`);
  await online(world);
  await world.clock.advance(0);
  assert.deepEqual(world.texts(), ["away 1", "away 2", "away 3"]);
  world.server.say("@alice,carol", "carol", "hi");
  await world.clock.advance(0);
  assert.equal(world.texts().at(-1), "hi");
  const ack = world.chat.sendTo("bob", "back");
  await world.clock.advance(0);
  assert.equal((await ack).room, "@alice,bob");
  world.server.sockets[0].end(1006);
  world.server.store("@alice,carol", "carol", "again");
  await world.clock.advance(2_000);
  assert.equal(world.texts().at(-1), "again");
  assert.equal(world.texts().length, 6);
});

test("waits between attempts double up to 30 s and are jittered over their whole length", async () => {
  for (const chance of [0.001, 0.5, 0.999]) {
    const world = setUp();
    await online(world);
    world.clock.chance = chance;
    world.server.listening = false;
    world.server.sockets[0].end(1006);
    await world.clock.advance(3 * MINUTE);
    let now = 1_700_000_000_000;
    for (const bound of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      const { retryAt } = world.seen.state.find(({ retryAt }) => retryAt > now);
      assert.ok(Math.abs(retryAt - now - bound * chance) < 1, `${retryAt - now} of ${bound}`);
      now = retryAt;
    }
    world.chat.close();
  }
});

test("between 100 and 115 minutes it moves to a new connection, unnoticed", async () => {
  for (const chance of [0, 0.999]) {
    const world = setUp();
    world.clock.chance = chance;
    await joined(world);
    world.server.say("lobby", "bob", "before");
    await world.clock.advance(99.9 * MINUTE);
    assert.equal(world.server.sockets.length, 1);
    // The moment both are open, both bring every message.
    let both = 0;
    world.server.intercept = (frame) => {
      if (frame.action === "hello") {
        both = world.server.open.length;
        world.server.say("lobby", "bob", "during");
      }
      return false;
    };
    await world.clock.advance(15.2 * MINUTE);
    assert.equal(world.server.sockets.length, 2);
    assert.equal(both, 2, "the old one closes only after the new one is up");
    assert.deepEqual(world.server.open, [world.server.sockets[1]]);
    world.server.say("lobby", "bob", "after");
    await world.clock.advance(1_000);
    assert.deepEqual(world.texts(), ["before", "during", "after"]);
    assert.deepEqual(
      world.seen.state.map(({ state }) => state),
      ["connecting", "online"],
    );
    world.chat.close();
  }
});

test("a send under way while it moves is answered on the old connection, and not sent twice", async () => {
  const world = setUp();
  world.clock.chance = 0;
  await joined(world);
  await world.clock.advance(100 * MINUTE - 1_000);
  let held;
  world.server.intercept = (frame, socket) => frame.action === "send" && Boolean((held = { frame, socket }));
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(3_000);
  assert.equal(world.server.open.length, 2, "the old one waits for its answer");
  assert.equal(held.socket, world.server.sockets[0]);
  world.server.intercept = () => false;
  world.server.handle(held.socket, held.frame);
  await world.clock.advance(MINUTE);
  assert.equal((await ack).seq, 1);
  assert.equal(new Set(world.server.frames("send")).size, 1);
  assert.deepEqual(world.server.open, [world.server.sockets[1]]);
  assert.deepEqual(world.texts(), ["hello"]);
});

test("a move that fails leaves the old connection in service and is tried again", async () => {
  const world = setUp();
  world.clock.chance = 0;
  await joined(world);
  await world.clock.advance(99 * MINUTE);
  world.clock.chance = 0.5;
  world.server.listening = false;
  await world.clock.advance(2 * MINUTE);
  assert.equal(world.chat.state, "online");
  world.server.say("lobby", "bob", "still here");
  world.server.listening = true;
  await world.clock.advance(MINUTE);
  assert.deepEqual(world.texts(), ["still here"]);
  assert.equal(world.server.open.length, 1);
  assert.notEqual(world.server.open[0], world.server.sockets[0]);
});

test("a token that expires sooner moves the connection sooner", async () => {
  const world = setUp({ user: undefined, token: () => "jwt" });
  world.server.expires = world.clock.now() / 1_000 + 15 * 60;
  await online(world);
  world.server.expires += 3_600;
  await world.clock.advance(13.9 * MINUTE);
  assert.equal(world.server.sockets.length, 1);
  await world.clock.advance(0.2 * MINUTE);
  assert.equal(world.server.sockets.length, 2);
});

test("pings at most every nine minutes, and only after silence", async () => {
  const world = setUp();
  await joined(world);
  await world.clock.advance(8 * MINUTE);
  world.chat.send("lobby", "not silent");
  await world.clock.advance(8.9 * MINUTE);
  assert.equal(world.server.frames("ping").length, 0);
  await world.clock.advance(0.2 * MINUTE);
  assert.equal(world.server.frames("ping").length, 1);
  await world.clock.advance(45 * MINUTE);
  assert.equal(world.server.frames("ping").length, 6);
});

test("a server that asks for fewer pings gets one every nine minutes all the same", async () => {
  const world = setUp();
  world.server.heartbeat = 3_600;
  await online(world);
  await world.clock.advance(9 * MINUTE);
  assert.equal(world.server.frames("ping").length, 1);
});

test("where pings are answered, one that is not ends the connection", async () => {
  const world = setUp();
  world.server.intercept = (frame, socket) => frame.action === "ping" && !socket.deliver({ type: "pong" });
  await online(world);
  await world.clock.advance(19 * MINUTE);
  assert.equal(world.server.sockets.length, 1);
  world.server.sockets[0].dead = true;
  await world.clock.advance(10 * MINUTE);
  assert.equal(world.server.sockets.length, 2);
  assert.equal(world.chat.state, "online");
});

test("a dead connection is noticed soon after the network or the page comes back", async () => {
  const surroundings = Object.assign(new EventTarget(), {
    document: Object.assign(new EventTarget(), { visibilityState: "visible" }),
  });
  const world = setUp({ surroundings });
  await joined(world);
  surroundings.dispatchEvent(new Event("online"));
  await world.clock.advance(6_000);
  assert.equal(world.server.sockets.length, 1, "a living one stays");
  world.server.sockets[0].dead = true;
  surroundings.document.dispatchEvent(new Event("visibilitychange"));
  await world.clock.advance(6_000);
  assert.equal(world.server.sockets.length, 2);
  assert.equal(world.chat.state, "online");

  world.clock.chance = 0.999;
  world.server.listening = false;
  world.server.sockets[1].end(1006);
  await world.clock.advance(40_000);
  const tried = world.server.sockets.length;
  world.server.listening = true;
  surroundings.dispatchEvent(new Event("online"));
  await world.clock.advance(0);
  assert.equal(world.server.sockets.length, tried + 1, "and waiting for the next attempt ends");
  assert.equal(world.chat.state, "online");
});

test("what was lost on a living connection is found when the page comes back", async () => {
  const world = setUp();
  await joined(world);
  for (const text of ["lost 1", "lost 2", "lost 3"]) world.server.store("lobby", "bob", text);
  world.chat.wake();
  await world.clock.advance(1_000);
  assert.deepEqual(world.texts(), ["lost 1", "lost 2", "lost 3"]);
});

test("an unanswered send on a silent connection ends it and goes out on the next", async () => {
  const world = setUp();
  await joined(world);
  world.server.sockets[0].dead = true;
  const ack = world.chat.send("lobby", "hello");
  await world.clock.advance(13_000);
  assert.equal((await ack).seq, 1);
  assert.equal(world.server.sockets.length, 2);
});

test("who left is shown as offline only after the grace, and not if they come back in time", async () => {
  const world = setUp();
  await joined(world);
  const bob = (state) =>
    world.server.open[0].deliver({
      type: "presence",
      room: "lobby",
      user: "bob",
      state,
      ...(state === "offline" && { grace_ms: 25_000 }),
    });
  bob("online");
  await world.clock.advance(0);
  bob("offline");
  await world.clock.advance(20_000);
  world.chat.who("lobby");
  await world.clock.advance(4_000);
  assert.deepEqual(world.chat.members("lobby"), ["alice", "bob"], "the server's list does not end the grace");
  bob("online");
  await world.clock.advance(30_000);
  const ofBob = () => world.seen.presence.filter(({ user }) => user === "bob");
  assert.deepEqual(ofBob(), [{ room: "lobby", user: "bob", online: true }]);
  bob("offline");
  await world.clock.advance(10_000);
  world.server.say("lobby", "bob", "still here");
  await world.clock.advance(20_000);
  assert.deepEqual(world.chat.members("lobby"), ["alice", "bob"], "who speaks is here");
  bob("offline");
  await world.clock.advance(25_001);
  assert.deepEqual(world.chat.members("lobby"), ["alice"]);
  assert.deepEqual(world.seen.presence.at(-1), { room: "lobby", user: "bob", online: false });
});

test("who is online is asked again after a reconnect", async () => {
  const world = setUp();
  await joined(world);
  const bob = client(world.clock, world.server, { user: "bob" });
  await joined({ ...bob, clock: world.clock });
  const who = world.chat.who("lobby");
  await world.clock.advance(0);
  assert.deepEqual(await who, ["alice", "bob"]);
  bob.chat.close();
  world.server.sockets[0].end(1006);
  await world.clock.advance(2_000);
  assert.deepEqual(world.chat.members("lobby"), ["alice"]);
});

test("an expired token is replaced where one can be asked for, else the client closes and keeps what was not sent", async () => {
  const expired = (frame, socket) => {
    if (frame.action !== "send" || socket.number > 1) return false;
    socket.deliver({ type: "error", id: frame.id, code: "TOKEN_EXPIRED", message: "expired", retry: false });
    return true;
  };
  const renewing = setUp({ user: undefined, token: () => "jwt" });
  await joined(renewing);
  renewing.server.intercept = expired;
  const ack = renewing.chat.send("lobby", "hello");
  await renewing.clock.advance(2_000);
  assert.equal((await ack).seq, 1);

  const fixed = setUp({ user: undefined, token: "jwt" });
  await joined(fixed);
  fixed.server.intercept = expired;
  fixed.chat.send("lobby", "hello").catch(() => {});
  await fixed.clock.advance(2_000);
  assert.equal(fixed.chat.state, "closed");
  assert.equal(fixed.seen.state.at(-1).error.code, "TOKEN_EXPIRED");
  assert.equal(fixed.chat.outbox.length, 1);
});

test("a goodbye says whether to come back", async () => {
  const world = setUp();
  await online(world);
  world.server.open[0].deliver({ type: "bye", code: "UNAVAILABLE", retry: true, retry_ms: 8_000 });
  await world.clock.advance(0);
  world.server.sockets[0].end(1001);
  await world.clock.advance(7_900);
  assert.equal(world.server.sockets.length, 1);
  await world.clock.advance(3_000);
  assert.equal(world.chat.state, "online");
  world.server.open[0].deliver({ type: "bye", code: "FORBIDDEN", retry: false });
  await world.clock.advance(0);
  world.server.sockets[1].end(1008);
  await world.clock.advance(MINUTE);
  assert.equal(world.chat.state, "closed");
  assert.equal(world.server.sockets.length, 2);
});

test("who left while this client was away is not shown because of what they had said", async () => {
  const world = setUp();
  await joined(world);
  world.server.sockets[0].end(1006);
  world.server.store("lobby", "bob", "bye");
  await world.clock.advance(2_000);
  assert.deepEqual(world.texts(), ["bye"]);
  assert.deepEqual(world.chat.members("lobby"), []);
});

test("leaving a room discards what was not sent there, so that nothing leads back into it", async () => {
  const world = setUp();
  await joined(world);
  world.server.listening = false;
  world.server.sockets[0].end(1006);
  const ack = world.chat.send("lobby", "too late");
  await world.clock.advance(0);
  world.chat.leave("lobby");
  await assert.rejects(ack, { code: "CLOSED" });
  world.server.listening = true;
  await world.clock.advance(60_000);
  assert.equal(world.chat.state, "online");
  assert.deepEqual(world.server.frames("send"), []);
  assert.equal(world.server.frames("join").length, 1);
});

test("a room that was left is silent, and stays left after a reconnect", async () => {
  const world = setUp();
  await joined(world);
  world.chat.leave("lobby");
  await world.clock.advance(0);
  world.server.open[0].deliver({ type: "message", ...world.server.store("lobby", "bob", "unheard") });
  world.server.sockets[0].end(1006);
  await world.clock.advance(2_000);
  assert.deepEqual(world.texts(), []);
  assert.deepEqual(world.server.frames("hello").at(-1).resume, []);
  assert.equal(world.server.frames("leave").length, 1);
});

test("a closed client leaves no timer and no socket behind, and tells those who wait", async () => {
  const world = setUp();
  await joined(world);
  world.server.open[0].deliver({ type: "presence", room: "lobby", user: "bob", state: "online" });
  await world.clock.advance(0);
  world.server.open[0].deliver({
    type: "presence",
    room: "lobby",
    user: "bob",
    state: "offline",
    grace_ms: 25_000,
  });
  await world.clock.advance(0);
  world.server.intercept = () => true;
  const history = world.chat.history("lobby");
  history.catch(() => {});
  await world.clock.advance(0);
  world.chat.close();
  await assert.rejects(history, { code: "CLOSED" });
  await assert.rejects(world.chat.history("lobby"), { code: "CLOSED" });
  assert.equal(world.server.open.length, 0);
  assert.equal(world.clock.pending, 0);
});

test("frames that make no sense hurt nobody, and a listener that throws hinders no other", async () => {
  const world = setUp();
  await joined(world);
  const socket = world.server.open[0];
  for (const data of [
    "",
    "{",
    "null",
    "[]",
    "7",
    '{"type":5}',
    '{"type":"message"}',
    '{"type":"batch","room":"lobby"}',
    '{"type":"later"}',
  ]) {
    socket.onmessage({ data });
  }
  socket.deliver({
    type: "message",
    room: "lobby",
    seq: -1,
    from: "bob",
    mid: "m",
    ts: 1,
    body: { text: "x" },
  });
  socket.deliver({
    type: "message",
    room: "stranger",
    seq: 1,
    from: "bob",
    mid: "m",
    ts: 1,
    body: { text: "x" },
  });
  await world.clock.advance(1_000);
  assert.deepEqual(world.texts(), []);

  const thrown = [];
  const original = globalThis.queueMicrotask;
  globalThis.queueMicrotask = (run) =>
    original(() => {
      try {
        run();
      } catch (error) {
        thrown.push(error.message);
      }
    });
  const { chat, texts } = client(world.clock, world.server, { user: "carol" });
  chat.on("message", () => {
    throw new Error("not my day");
  });
  let after = 0;
  chat.on("message", () => (after += 1));
  await joined({ chat, clock: world.clock });
  world.server.say("lobby", "bob", "hi");
  await world.clock.advance(0);
  globalThis.queueMicrotask = original;
  assert.deepEqual([texts(), after, thrown], [["hi"], 1, ["not my day"]]);
});
