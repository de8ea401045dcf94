// What the browser remembers: the name, how far each room was read, and per tab what the client needs to go on.
//
// Two tabs may be two people, and two tabs may be the same person, so each tab keeps its own outbox under its own id
// and holds a lock while it lives. An outbox whose tab is gone is adopted by the next tab of the same user.

const PREFIX = "chat.";
const NAME = `${PREFIX}name`;
const TOKEN = `${PREFIX}token`;
const TAB = `${PREFIX}tab`;
const DRAFT = `${PREFIX}draft.`;

/** @typedef {import("../chat-client.d.ts").SavedState} SavedState */

/** The name last used here, unless another living tab is using it. */
export async function rememberedName() {
  const own = sessionStorage.getItem(NAME);
  if (own) return { name: own, enter: true };
  const name = localStorage.getItem(NAME) ?? "";
  const taken = name !== "" && (await heldLocks()).has(userLock(name));
  return { name, enter: name !== "" && !taken, taken };
}

/** @param {string} name */
export function rememberName(name) {
  sessionStorage.setItem(NAME, name);
  localStorage.setItem(NAME, name);
}

export function forgetName() {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
  sessionStorage.removeItem(TOKEN);
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(DRAFT)) sessionStorage.removeItem(key);
}

/** What was begun and not sent, for as long as the tab lives. */
export const drafts = {
  /** @param {string} room */
  get: (room) => sessionStorage.getItem(`${DRAFT}${room}`) ?? "",
  /**
   * @param {string} room
   * @param {string} text
   */
  set(room, text) {
    if (text === "") sessionStorage.removeItem(`${DRAFT}${room}`);
    else sessionStorage.setItem(`${DRAFT}${room}`, text);
  },
};

/** A token lives only as long as the tab. */
export function rememberedToken() {
  return sessionStorage.getItem(TOKEN);
}

/** @param {string} token */
export function rememberToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** Tells this browser from the user's other devices. */
export function deviceId() {
  const key = `${PREFIX}device`;
  let id = localStorage.getItem(key);
  if (!id) localStorage.setItem(key, (id = crypto.randomUUID()));
  return id;
}

/**
 * The client's storage for this tab and user, with what vanished tabs of the same user left unsent.
 * @param {string} user
 * @returns {Promise<import("../chat-client.d.ts").ChatStorage>}
 */
export async function clientStorage(user) {
  const tab = await tabId();
  void hold(userLock(user), "shared");
  const own = `${PREFIX}client.${user}/${tab}`;
  const shared = `${PREFIX}client.${user}`;
  const saved = /** @type {SavedState | null} */ (read(own) ?? read(shared));
  const state = saved ?? { user, rooms: [], outbox: [] };
  if (!read(own)) state.outbox = [];
  for (const key of await orphans(`${shared}/`, own)) {
    const left = /** @type {SavedState | null} */ (read(key));
    const known = new Set(state.outbox.map(({ id }) => id));
    state.outbox.push(...(left?.outbox ?? []).filter(({ id }) => !known.has(id)));
    write(own, state);
    localStorage.removeItem(key);
  }
  return {
    load: () => state,
    save(next) {
      write(own, next);
      // A new tab starts in the same rooms, but sends nothing on this tab's behalf.
      write(shared, { ...next, outbox: [] });
    },
  };
}

/**
 * How far the user has read, per room, and which direct conversations they have put away.
 * @param {string} user
 */
export function readMarks(user) {
  const key = `${PREFIX}read.${user}`;
  /** @type {Record<string, number>} */
  const marks = read(key) ?? {};
  const closedKey = `${PREFIX}closed.${user}`;
  /** @type {Set<string>} */
  const closed = new Set(read(closedKey));
  return {
    /** @param {string} room */
    get: (room) => marks[room],
    /** @param {string} room whether it is a conversation that was put away */
    closed: (room) => closed.has(room),
    /**
     * @param {string} room
     * @param {boolean} away
     */
    close(room, away) {
      if (away === closed.has(room)) return;
      if (away) closed.add(room);
      else closed.delete(room);
      write(closedKey, [...closed]);
    },
    /**
     * @param {string} room
     * @param {number | undefined} seq `undefined` forgets it
     */
    set(room, seq) {
      if (seq === undefined) delete marks[room];
      else marks[room] = seq;
      write(key, marks);
    },
  };
}

/** An id that survives reloading, but not duplicating, the tab. */
async function tabId() {
  let id = sessionStorage.getItem(TAB);
  // A page that is being replaced by this one may take a moment to let go.
  for (let attempt = 0; id && attempt < 5; attempt += 1) {
    if (await hold(tabLock(id))) return id;
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  id = crypto.randomUUID().slice(0, 8);
  sessionStorage.setItem(TAB, id);
  await hold(tabLock(id));
  return id;
}

/**
 * Keys of tabs that no longer live. Where locks cannot tell, all others count as living.
 * @param {string} prefix
 * @param {string} own
 */
async function orphans(prefix, own) {
  if (!navigator.locks) return [];
  const held = await heldLocks();
  return Object.keys(localStorage).filter((key) => {
    return key.startsWith(prefix) && key !== own && !held.has(tabLock(key.slice(prefix.length)));
  });
}

/** @param {string} id */
const tabLock = (id) => `${PREFIX}tab.${id}`;
/** @param {string} name */
const userLock = (name) => `${PREFIX}user.${name}`;

async function heldLocks() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  return new Set(held.map(({ name }) => name));
}

/**
 * Takes a lock for the life of the page. Says whether it was free.
 * @param {string} name
 * @param {"exclusive" | "shared"} [mode]
 * @returns {Promise<boolean>}
 */
function hold(name, mode = "exclusive") {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true, mode }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise(() => {});
    });
  });
}

/** @param {string} key */
function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {unknown} value
 */
function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or forbidden: the chat works on, it only forgets more when the page is reloaded.
  }
}
