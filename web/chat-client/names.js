// What counts as a name on the wire, and the one name that the room of two people can have.

/** Users, rooms, devices and message ids alike. */
export const NAME = /^[A-Za-z0-9_.:-]{1,64}$/;

/** Limits of the protocol that a client can check before it sends. */
export const LIMITS = Object.freeze({
  /** Characters (Unicode scalar values, not UTF-16 units) in one text. */
  text: 4000,
  /** UTF-8 bytes in one frame. */
  frameBytes: 16 * 1024,
  /** Rooms that one `hello` may resume. */
  resume: 25,
  /** Messages that one `history` may return. */
  page: 100,
});

/** @param {unknown} value */
export function isName(value) {
  return typeof value === "string" && NAME.test(value);
}

/**
 * The room of two people. `@` and `,` occur in no name, so no named room and no other pair can collide with it.
 * @param {string} one
 * @param {string} other
 */
export function directRoom(one, other) {
  // Names are ASCII, so comparing strings compares bytes, which is how the server sorts them.
  return one < other ? `@${one},${other}` : `@${other},${one}`;
}

/**
 * The other person in a room of two, or `null` for named rooms and for rooms that are not `me`'s.
 * @param {string} room
 * @param {string} me
 */
export function directPeer(room, me) {
  if (!room.startsWith("@")) return null;
  const [one, other, ...rest] = room.slice(1).split(",");
  if (rest.length > 0 || !isName(one) || !isName(other) || directRoom(one, other) !== room) return null;
  if (one === me) return other;
  return other === me ? one : null;
}

/** @param {string} text */
export function textLength(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

const HEX = "0123456789abcdef";

/** An id no one else will pick: the time in front, so that ids sort by age, then 80 random bits. */
export function newId(now = Date.now()) {
  const random = globalThis.crypto.getRandomValues(new Uint8Array(10));
  let id = now.toString(16).padStart(12, "0") + "-";
  for (const byte of random) id += HEX[byte >> 4] + HEX[byte & 15];
  return id;
}
