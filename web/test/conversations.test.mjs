// What the app makes of the client's events: order on screen, unread counts, and what happens to one's own messages.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversations, unread } from "../app/conversations.js";
import { subjectOf } from "../app/token.js";
import { ChatClient } from "../chat-client.js";
import { FakeClock, FakeServer } from "./fakes.mjs";

async function setUp(options = {}) {
  const clock = options.clock ?? new FakeClock();
  const server = options.server ?? new FakeServer(clock);
  const saved = options.saved ?? {};
  const closed = new Set();
  const marks = {
    get: (room) => saved[room],
    set: (room, seq) => (seq === undefined ? delete saved[room] : (saved[room] = seq)),
    closed: (room) => closed.has(room),
    close: (room, away) => (away ? closed.add(room) : closed.delete(room)),
  };
  const chat = new ChatClient({
    url: "ws://127.0.0.1:1/api/local",
    user: "alice",
    WebSocket: server.WebSocket,
    clock,
    storage: options.storage,
  });
  const conversations = new Conversations(chat, marks, () => {});
  chat.connect().catch(() => {});
  await clock.advance(0);
  return {
    marks,
    clock,
    server,
    chat,
    conversations,
    saved,
    text: (room) => conversations.get(room).entries.map((entry) => entry.text),
  };
}

async function joined(world, room = "lobby") {
  world.conversations.join(room);
  await world.clock.advance(0);
}

test("what was said before joining counts as read, what comes after as unread until it is read", async () => {
  const world = await setUp();
  world.server.store("lobby", "bob", "old");
  await joined(world);
  assert.equal(world.conversations.unread, 0);
  world.server.say("lobby", "bob", "new");
  await world.clock.advance(0);
  assert.equal(unread(world.conversations.get("lobby")), 1);
  world.conversations.markRead("lobby");
  assert.equal(world.conversations.unread, 0);
  assert.equal(world.saved.lobby, 2);
});

test("whoever answers has read what came before", async () => {
  const world = await setUp();
  await joined(world);
  world.server.say("lobby", "bob", "question");
  await world.clock.advance(0);
  world.conversations.send("lobby", "answer");
  await world.clock.advance(0);
  assert.equal(world.conversations.unread, 0);
});

test("unread counts survive the page, and include what came while there was none", async () => {
  let state = null;
  const storage = { load: () => state, save: (next) => (state = structuredClone(next)) };
  const first = await setUp({ storage });
  await joined(first);
  first.server.say("lobby", "bob", "1");
  await first.clock.advance(1_000);
  first.chat.close();
  first.server.store("lobby", "bob", "2");
  const { clock, server, saved } = first;
  const second = await setUp({ clock, server, saved, storage });
  await clock.advance(1_000);
  assert.equal(unread(second.conversations.get("lobby")), 2);
});

test("one's own message stands at the end while it is on its way, and takes its place by seq", async () => {
  const world = await setUp();
  await joined(world);
  let held;
  world.server.intercept = (frame, socket) => frame.action === "send" && Boolean((held = { frame, socket }));
  world.conversations.send("lobby", "mine");
  world.server.say("lobby", "bob", "theirs");
  await world.clock.advance(0);
  assert.deepEqual(world.text("lobby"), ["theirs", "mine"]);
  assert.equal(world.conversations.get("lobby").entries[1].state, "sending");
  world.server.intercept = () => false;
  world.server.handle(held.socket, held.frame);
  await world.clock.advance(0);
  const { entries } = world.conversations.get("lobby");
  assert.deepEqual(
    entries.map(({ seq, state }) => [seq, state]),
    [
      [1, "received"],
      [2, "sent"],
    ],
  );
});

test("the same id from two people is two messages", async () => {
  const world = await setUp();
  await joined(world);
  world.server.say("lobby", "bob", "one", "m1");
  world.server.say("lobby", "carol", "two", "m1");
  await world.clock.advance(0);
  assert.deepEqual(world.text("lobby"), ["one", "two"]);
});

test("a failed message says why, and can be tried again or deleted", async () => {
  const world = await setUp();
  await joined(world);
  world.server.intercept = (frame, socket) =>
    frame.action === "send" &&
    !socket.deliver({ type: "error", id: frame.id, code: "FORBIDDEN", message: "not here", retry: false });
  world.conversations.send("lobby", "a");
  world.conversations.send("lobby", "b");
  await world.clock.advance(0);
  const [a, b] = world.conversations.get("lobby").entries;
  assert.deepEqual([a.state, a.error], ["failed", "not here"]);
  world.conversations.discard(a.mid);
  world.server.intercept = () => false;
  world.conversations.retry(b.mid);
  await world.clock.advance(0);
  assert.deepEqual(world.text("lobby"), ["b"]);
  assert.equal(world.conversations.get("lobby").entries[0].state, "sent");
});

test("older messages come page by page, each once, until there are no more", async () => {
  const world = await setUp();
  for (let n = 1; n <= 120; n += 1) world.server.store("lobby", "bob", `${n}`);
  await joined(world);
  for (const count of [50, 100, 120, 120]) {
    assert.equal(world.conversations.get("lobby").entries.length, count);
    world.conversations.loadOlder("lobby");
    await world.clock.advance(0);
  }
  assert.deepEqual(
    world.text("lobby"),
    Array.from({ length: 120 }, (_, n) => `${n + 1}`),
  );
  assert.equal(world.conversations.get("lobby").older, false);
});

test("after a gap only what follows it is shown, and the rest is to be had by scrolling up", async () => {
  const world = await setUp();
  await joined(world);
  world.server.say("lobby", "bob", "before");
  await world.clock.advance(0);
  world.server.sockets[0].end(1006);
  for (let n = 2; n <= 900; n += 1) world.server.store("lobby", "bob", `${n}`);
  await world.clock.advance(5_000);
  const seqs = world.conversations.get("lobby").entries.map(({ seq }) => seq);
  assert.deepEqual(
    seqs,
    Array.from({ length: seqs.length }, (_, n) => 900 - seqs.length + 1 + n),
    "an unbroken run",
  );
  assert.equal(world.conversations.get("lobby").older, true);
});

test("a direct message of a stranger opens a conversation that is unread", async () => {
  const world = await setUp();
  world.server.say("@alice,bob", "bob", "hello");
  await world.clock.advance(0);
  const [conversation] = world.conversations.directs;
  assert.equal(conversation.peer, "bob");
  assert.equal(unread(conversation), 1);
});

test("a direct conversation that was put away comes back with the next message, not with the next connection", async () => {
  const world = await setUp();
  world.server.say("@alice,bob", "bob", "hello");
  await world.clock.advance(0);
  world.conversations.leave("@alice,bob");
  world.server.sockets[0].end(1006);
  await world.clock.advance(2_000);
  assert.deepEqual(world.conversations.directs, []);
  world.server.say("@alice,bob", "bob", "still there?");
  await world.clock.advance(0);
  assert.equal(world.conversations.directs.length, 1);
  assert.equal(world.conversations.unread, 1);
  assert.equal(world.marks.closed("@alice,bob"), false);
});

test("a room that began anew forgets what was shown and how far it was read", async () => {
  const world = await setUp();
  await joined(world);
  for (const text of ["a", "b", "c"]) world.server.say("lobby", "bob", text);
  await world.clock.advance(0);
  world.conversations.markRead("lobby");
  world.server.sockets[0].end(1006);
  world.server.rooms.clear();
  world.server.store("lobby", "bob", "fresh");
  await world.clock.advance(5_000);
  assert.deepEqual(world.text("lobby"), ["fresh"]);
  assert.equal(unread(world.conversations.get("lobby")), 1);
});

test("a token is read for its subject unless it is none or has expired", () => {
  const token = (claims) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;
  assert.equal(subjectOf(token({ sub: "zoë", exp: 4e9 })), "zoë");
  for (const bad of [token({ sub: "a", exp: 1 }), token({ exp: 4e9 }), token(null), "a.b", "", null])
    assert.equal(subjectOf(bad), null);
});
