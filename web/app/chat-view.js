// The chat as a whole: sidebar, conversation and people side by side, or as drawers where there is no room; and which
// conversation is in front.

import { isName } from "../chat-client.js";
import { composer } from "./composer.js";
import { el, icon, set } from "./dom.js";
import { memberList } from "./members.js";
import { drafts } from "./memory.js";
import { avatar, showOnline } from "./people.js";
import { sidebar } from "./sidebar.js";
import { connectionStatus } from "./status.js";
import { switcher } from "./switcher.js";
import { thread } from "./thread.js";

/** Where everybody meets who has been nowhere yet. */
const FIRST_ROOM = "lobby";
const CLOCK_TICK = 30_000;
const NOTICE_MS = 8_000;

/**
 * @param {HTMLElement} place
 * @param {{
 *   client: import("../chat-client.js").ChatClient,
 *   conversations: import("./conversations.js").Conversations,
 *   me: string,
 *   stage: string,
 *   signOut: () => void,
 * }} app
 */
export function chatView(place, { client, conversations, me, stage, signOut }) {
  const announcer = /** @type {HTMLElement} */ (document.getElementById("announcer"));
  const phone = matchMedia("(max-width: 760px)");
  const narrow = matchMedia("(max-width: 1100px)");
  const ending = new AbortController();
  /** @type {"side" | "members" | null} */
  let drawer = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let drawing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let noticed;

  const status = connectionStatus({ client });
  const messages = thread({ conversations, direct });
  const writing = composer({
    drafts,
    send: (text) => {
      if (conversations.active === null) return;
      conversations.send(conversations.active, text);
      messages.toEnd();
    },
    scroll: messages.scrollBy,
  });
  const search = switcher({ conversations, open, join, direct, tell });
  const side = sidebar({ conversations, me, stage, open, join, direct, signOut, search: search.open });
  const people = memberList({
    conversations,
    me,
    direct,
    closeButton: el(
      "button",
      { class: "quiet drawer-close", "aria-label": "Close", onclick: () => slide(null) },
      icon("close"),
    ),
  });

  const title = el("h1", { class: "title" });
  const face = el("span", { class: "title-face" });
  const subtitle = el("span", { class: "subtitle" });
  const menuBadge = el("span", { class: "dot", hidden: true });
  const leaveButton = el("button", { class: "quiet", "data-testid": "leave", onclick: () => void leave() });
  const peopleButton = el(
    "button",
    {
      class: "quiet people-button",
      title: "People in this room",
      "aria-controls": "members",
      onclick: () => slide("members"),
    },
    icon("people"),
    el("span", { class: "people-count" }),
    el("span", { class: "unseen" }, "people online"),
  );
  const notice = el("p", { class: "notice", role: "alert" });
  const empty = el(
    "div",
    { class: "empty", hidden: true },
    el("p", {}, "Choose a conversation, or join a room by its name."),
  );
  const centre = el(
    "main",
    { class: "centre" },
    el(
      "header",
      { class: "head" },
      el(
        "button",
        {
          class: "quiet menu-button",
          "aria-label": "Conversations",
          "aria-controls": "side",
          onclick: () => slide("side"),
        },
        icon("menu"),
        menuBadge,
      ),
      face,
      el("div", { class: "titles" }, title, subtitle),
      status.element,
      peopleButton,
      leaveButton,
    ),
    status.banner,
    notice,
    messages.element,
    empty,
    writing.element,
  );
  const scrim = el("div", { class: "scrim", onclick: () => slide(null) });

  /** @param {string | null} room */
  function open(room) {
    slide(null);
    messages.show(room);
    conversations.show(room).catch(() => {});
    const wanted = room === null ? "" : `#${encodeURIComponent(room)}`;
    if (location.hash !== wanted) history.replaceState(null, "", wanted || location.pathname);
    render();
    if (!phone.matches) writing.focus();
  }

  /** @param {string} room */
  async function join(room) {
    const joining = conversations.get(room) ? Promise.resolve() : conversations.join(room);
    await joining;
    open(room);
  }

  /** @param {string} user */
  async function direct(user) {
    if (user === me) throw new Error("That is you.");
    open(await conversations.direct(user));
  }

  async function leave() {
    const room = conversations.active;
    if (room === null) return;
    const all = [...conversations.rooms, ...conversations.directs].map((other) => other.room);
    const next = all[all.indexOf(room) + 1] ?? all[all.indexOf(room) - 1] ?? null;
    const left = conversations.leave(room);
    open(next);
    await left.catch(() => {});
  }

  /**
   * @param {number} step
   * @param {boolean} unreadOnly
   */
  function move(step, unreadOnly) {
    const all = [...conversations.rooms, ...conversations.directs];
    const from = all.findIndex(({ room }) => room === conversations.active);
    for (let n = 1; n <= all.length; n += 1) {
      const other = all[(from + step * n + all.length * n) % all.length];
      if (!unreadOnly || other.head > other.read) return open(other.room);
    }
  }

  /**
   * Says for a while what went wrong.
   * @param {unknown} error
   */
  function tell(error) {
    notice.textContent = /** @type {Error} */ (error).message;
    clearTimeout(noticed);
    noticed = setTimeout(() => notice.replaceChildren(), NOTICE_MS);
  }

  /** @param {"side" | "members" | null} which */
  function slide(which) {
    const next = drawer === which ? null : which;
    if (next === drawer) return;
    const was = drawer;
    drawer = next;
    set(place, { "data-drawer": drawer });
    inert();
    if (drawer === "side") /** @type {HTMLElement} */ (side.element.querySelector("button")).focus();
    else if (drawer === "members")
      /** @type {HTMLElement} */ (people.element.querySelector("button")).focus();
    else if (was)
      /** @type {HTMLElement} */ (
        centre.querySelector(was === "side" ? ".menu-button" : ".people-button")
      ).focus();
  }

  /** What is out of sight is out of reach, for the keyboard too. */
  function inert() {
    side.element.inert = phone.matches && drawer !== "side";
    people.element.inert = narrow.matches && drawer !== "members";
    centre.inert = drawer !== null && narrow.matches;
  }

  /** @param {KeyboardEvent} event */
  function keys(event) {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      slide(null);
      search.open();
    } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      move(event.key === "ArrowUp" ? -1 : 1, event.shiftKey);
    } else if (event.key === "Escape" && !search.element.open) {
      if (drawer) slide(null);
      else {
        messages.toEnd();
        writing.focus();
      }
    }
  }

  function render() {
    drawing = undefined;
    const conversation = conversations.get(conversations.active);
    const room = conversation?.room ?? null;
    const peer = conversation?.peer ?? null;
    messages.show(room);
    messages.render();
    side.render();
    const online = people.render();
    title.textContent = peer ?? room ?? "chatctl";
    heading(room, peer);
    subtitle.textContent = peer
      ? conversations.isOnline(peer)
        ? "online"
        : "not here now"
      : room
        ? `${online} online`
        : "";
    /** @type {Element} */ (peopleButton.querySelector(".people-count")).textContent = String(online);
    peopleButton.hidden = leaveButton.hidden = room === null;
    leaveButton.textContent = peer ? "Close" : "Leave";
    set(leaveButton, { "aria-label": peer ? `Close conversation with ${peer}` : `Leave room ${room}` });
    empty.hidden = room !== null;
    messages.element.hidden = room === null;
    writing.show(room, peer ? `Message ${peer}` : `Message #${room}`);
    const { unread } = conversations;
    const elsewhere = unread - (conversation ? conversation.head - conversation.read : 0);
    menuBadge.hidden = elsewhere <= 0;
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${room ? `${peer ?? `#${room}`} · ` : ""}chatctl`;
  }

  /**
   * @param {string | null} room
   * @param {string | null} peer
   */
  function heading(room, peer) {
    const key = peer ?? `#${room}`;
    if (face.dataset.key !== key) {
      face.dataset.key = key;
      face.replaceChildren(
        peer ? avatar(peer, { online: false }) : el("span", { class: "hash", "aria-hidden": "true" }, "#"),
      );
    }
    if (peer) showOnline(/** @type {Element} */ (face.firstElementChild), conversations.isOnline(peer));
  }

  /** Whether the other one in a room of two is there nobody says unasked. */
  function freshen() {
    const peer = conversations.get(conversations.active)?.peer;
    if (peer && client.state === "online" && document.hasFocus()) conversations.askWho();
  }

  /** Many changes, one drawing. Not by animation frames, which stop in tabs behind: their title must still count. */
  function draw() {
    drawing ??= setTimeout(render, 0);
  }

  function toHash() {
    let room = "";
    try {
      room = decodeURIComponent(location.hash.slice(1));
    } catch {
      // Not one of ours.
    }
    if (room === conversations.active) return false;
    if (conversations.get(room)) open(room);
    else if (isName(room)) join(room).catch(tell);
    else return false;
    return true;
  }

  function first() {
    if (toHash()) return;
    const [known] = [...conversations.rooms, ...conversations.directs];
    if (known) open(known.room);
    else join(FIRST_ROOM).catch(tell);
  }

  return {
    /** @param {{ room: string | null, arrived?: import("./conversations.js").Entry }} change */
    changed({ room, arrived }) {
      draw();
      if (!arrived || client.state !== "online") return;
      const here = room === conversations.active && document.hasFocus();
      announcer.textContent = here ? `${arrived.from}: ${arrived.text}` : `New message from ${arrived.from}`;
    },
    start() {
      const { signal } = ending;
      place.replaceChildren(side.element, centre, people.element, scrim, search.element);
      addEventListener("keydown", keys, { signal });
      addEventListener("hashchange", toHash, { signal });
      addEventListener("focus", messages.returned, { signal });
      addEventListener("focus", freshen, { signal });
      document.addEventListener("visibilitychange", messages.returned, { signal });
      for (const query of [phone, narrow]) query.addEventListener("change", inert, { signal });
      const clock = setInterval(() => (freshen(), draw()), CLOCK_TICK);
      signal.addEventListener("abort", () => clearInterval(clock));
      const unlisten = client.on("state", (change) => {
        status.show(change);
        draw();
      });
      signal.addEventListener("abort", unlisten);
      signal.addEventListener(
        "abort",
        client.on("refused", ({ error }) => tell(error)),
      );
      status.show({ state: client.state });
      inert();
      render();
      first();
    },
    stop() {
      ending.abort();
      clearTimeout(drawing);
      clearTimeout(noticed);
      status.stop();
      place.removeAttribute("data-drawer");
      document.title = "chatctl";
    },
  };
}
