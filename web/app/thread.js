// The messages of the conversation in front: grouped by who and when, older ones on scrolling up, the place kept.

import { arrange, el, icon, set } from "./dom.js";
import { avatar } from "./people.js";
import { ago, dayKey, dayName, exact } from "./time.js";

/** Messages of one person closer together than this stand under one name. */
const TOGETHER = 5 * 60_000;
/** How near to the end counts as being at it, and how near to the start makes older messages load. */
const AT_END = 40;
const NEAR_START = 400;
/** Up to three emoji and nothing else. */
const ONLY_EMOJI =
  /^(?:\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\uFE0F|\u200D\p{Extended_Pictographic})*\s*){1,3}$/u;

/** @typedef {import("./conversations.js").Entry} Entry */

/** @param {{ conversations: import("./conversations.js").Conversations, direct: (user: string) => Promise<void> }} app */
export function thread({ conversations, direct }) {
  const list = el("ol", { class: "list" });
  const start = el("div", { class: "start" });
  const scroller = el(
    "div",
    {
      class: "scroller",
      "data-testid": "messages",
      role: "log",
      "aria-label": "Messages",
      "aria-live": "off",
      tabindex: "0",
    },
    start,
    list,
  );
  const fresh = el("button", { class: "fresh", hidden: true, onclick: () => toEnd(true) });
  const element = el("div", { class: "thread" }, scroller, fresh);

  /** @type {Map<string, HTMLLIElement>} */
  const rows = new Map();
  /** @type {string | null} */
  let room = null;
  let following = true;
  /** Whether the conversation was opened but not yet drawn with its messages. */
  let landing = false;

  scroller.addEventListener("scroll", () => {
    following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_END;
    noteRead();
    loadIfNear();
  });
  // A keyboard that opens, a composer that grows: whoever was at the end stays there.
  new ResizeObserver(() => following && toEnd()).observe(scroller);

  function toEnd(smooth = false) {
    following = true;
    scroller.scrollTo({ top: scroller.scrollHeight, behavior: smooth ? "smooth" : "instant" });
    noteRead();
  }

  /** Read is what was at the end of the list, on a page that somebody looks at. */
  function noteRead() {
    if (room !== null && following && document.hasFocus() && document.visibilityState === "visible") {
      conversations.markRead(room);
    }
    const conversation = conversations.get(room);
    const below = conversation && !following ? conversation.head - conversation.read : 0;
    fresh.hidden = following;
    fresh.replaceChildren(icon("down"), below > 0 ? `${below} new` : "Latest");
  }

  function loadIfNear() {
    const conversation = conversations.get(room);
    if (!conversation?.loaded || !conversation.older || conversation.loading) return;
    if (scroller.scrollTop < NEAR_START) void conversations.loadOlder(conversation.room).catch(() => {});
  }

  /** @param {Entry} entry */
  function row(entry) {
    let item = rows.get(entry.key);
    if (!item) {
      const emoji = ONLY_EMOJI.test(entry.text);
      item = el(
        "li",
        {
          class: "message",
          "data-testid": "message",
          "data-mid": entry.mid,
          "data-from": entry.from,
          "data-own": entry.own,
        },
        entry.own
          ? null
          : el(
              "button",
              {
                class: "face",
                title: `Message ${entry.from}`,
                "aria-label": `Message ${entry.from}`,
                tabindex: "-1",
                onclick: () => void direct(entry.from),
              },
              avatar(entry.from),
            ),
        el(
          "div",
          { class: "what" },
          el(
            "div",
            { class: "who" },
            el("span", { class: "author" }, entry.own ? "You" : entry.from),
            el("time", {}),
          ),
          el("p", { class: "text", dir: "auto", "data-emoji": emoji }, entry.text),
          el("div", { class: "fate" }),
        ),
      );
      rows.set(entry.key, item);
    }
    if (item.dataset.state !== entry.state || item.dataset.seq !== String(entry.seq ?? "")) {
      set(item, { "data-state": entry.state, "data-seq": entry.seq });
      fate(item, entry);
    }
    return item;
  }

  /**
   * What has become of one's own message.
   * @param {HTMLElement} item
   * @param {Entry} entry
   */
  function fate(item, entry) {
    const place = /** @type {HTMLElement} */ (item.querySelector(".fate"));
    if (entry.state === "sending") return place.replaceChildren("Sending…");
    if (entry.state !== "failed") return place.replaceChildren();
    place.replaceChildren(
      el("span", { role: "alert" }, `Not sent: ${entry.error ?? "no reason given"}`),
      el("button", { "data-testid": "retry", onclick: () => conversations.retry(entry.mid) }, "Try again"),
      el("button", { "data-testid": "discard", onclick: () => conversations.discard(entry.mid) }, "Delete"),
    );
  }

  /** @param {Entry[]} entries */
  function lines(entries) {
    const now = Date.now();
    const conversation = conversations.get(room);
    /** @type {Element[]} */
    const wanted = [];
    /** @type {Entry | null} */
    let last = null;
    /** @type {Element | null} */
    let lastItem = null;
    let marked = false;
    for (const entry of entries) {
      const newDay = last === null || dayKey(last.ts) !== dayKey(entry.ts);
      if (newDay) wanted.push(separator(`day ${dayKey(entry.ts)}`, "day", dayName(entry.ts, now)));
      const from = conversation?.newFrom ?? null;
      const firstNew = !marked && from !== null && !entry.own && entry.seq !== null && entry.seq >= from;
      if (firstNew) {
        marked = true;
        wanted.push(separator("new", "new", "New"));
      }
      const item = row(entry);
      const apart = newDay || firstNew || last?.from !== entry.from || entry.ts - last.ts > TOGETHER;
      set(item, { "data-first": apart });
      if (lastItem) set(lastItem, { "data-last": apart });
      const time = /** @type {HTMLTimeElement} */ (item.querySelector("time"));
      set(time, { datetime: new Date(entry.ts).toISOString(), title: exact(entry.ts) });
      const said = ago(entry.ts, now);
      if (time.textContent !== said) time.textContent = said;
      wanted.push(item);
      lastItem = item;
      last = entry;
    }
    if (lastItem) set(lastItem, { "data-last": true });
    return wanted;
  }

  /**
   * @param {string} key
   * @param {"day" | "new"} kind
   * @param {string} text
   */
  function separator(key, kind, text) {
    let item = rows.get(key);
    if (!item) {
      item = el("li", { class: `line ${kind}` }, el("span", {}));
      rows.set(key, item);
    }
    const label = /** @type {Element} */ (item.firstElementChild);
    if (label.textContent !== text) label.textContent = text;
    return item;
  }

  function render() {
    if (room !== null && following) conversations.trim(room);
    const conversation = conversations.get(room);
    const anchor = following ? null : firstVisible();
    const top = anchor?.getBoundingClientRect().top ?? 0;
    const wanted = conversation ? lines(conversation.entries) : [];
    arrange(list, wanted);
    const living = new Set(wanted);
    for (const [key, item] of rows) if (!living.has(item)) rows.delete(key);
    beginning(conversation);
    if (landing && conversation?.loaded) land(conversation);
    if (following) toEnd();
    else if (anchor?.isConnected) scroller.scrollTop += anchor.getBoundingClientRect().top - top;
    noteRead();
    loadIfNear();
  }

  /**
   * A conversation opens at its end, or where the unread begins if that is further up than one can see.
   * @param {import("./conversations.js").Conversation} conversation
   */
  function land({ newFrom, entries }) {
    landing = false;
    const line = rows.get("new");
    const whole = newFrom !== null && (entries[0]?.seq ?? Infinity) <= newFrom;
    if (!line?.isConnected || !whole) return;
    const below = list.getBoundingClientRect().bottom - line.getBoundingClientRect().top;
    if (below <= scroller.clientHeight) return;
    following = false;
    line.scrollIntoView({ block: "start", behavior: "instant" });
  }

  /** The message whose place on the screen must not change when others come before it. */
  function firstVisible() {
    const edge = scroller.getBoundingClientRect().top;
    for (const item of list.children) {
      if (item.classList.contains("message") && item.getBoundingClientRect().bottom > edge) return item;
    }
    return null;
  }

  /** @param {import("./conversations.js").Conversation | undefined} conversation */
  function beginning(conversation) {
    const state = !conversation ? "none" : !conversation.loaded || conversation.older ? "loading" : "whole";
    const key = `${state} ${room}`;
    if (start.dataset.key === key) return;
    start.dataset.key = key;
    if (!conversation) return start.replaceChildren();
    if (state === "loading")
      return start.replaceChildren(
        el("span", { class: "spinner", role: "status", "aria-label": "Loading messages" }),
      );
    const { peer } = conversation;
    start.replaceChildren(
      peer ? avatar(peer) : el("span", { class: "big-hash", "aria-hidden": "true" }, "#"),
      el("h2", {}, peer ?? conversation.room),
      el(
        "p",
        {},
        peer ? `Only you and ${peer} can read this.` : "This is where the room begins. Say something.",
      ),
    );
  }

  return {
    element,
    render,
    noteRead,
    /** Somebody is looking again: what came meanwhile is marked as new before it counts as read. */
    returned() {
      if (room !== null && document.hasFocus()) conversations.markNew(room);
      noteRead();
    },
    /** @param {string | null} next */
    show(next) {
      if (room === next) return;
      room = next;
      rows.clear();
      list.replaceChildren();
      following = true;
      landing = true;
      fresh.hidden = true;
    },
    toEnd,
    /** @param {number} pages how far, down if positive */
    scrollBy: (pages) => scroller.scrollBy({ top: pages * scroller.clientHeight * 0.9 }),
  };
}
