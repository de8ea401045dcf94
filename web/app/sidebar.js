// The left side: who this is, the rooms, the people one talks with, and the two ways to open another.

import { isName } from "../chat-client.js";
import { unread } from "./conversations.js";
import { arrange, el, icon, set } from "./dom.js";
import { avatar, showOnline } from "./people.js";

/**
 * @param {{
 *   conversations: import("./conversations.js").Conversations,
 *   me: string,
 *   stage: string,
 *   open: (room: string) => void,
 *   join: (room: string) => Promise<void>,
 *   direct: (user: string) => Promise<void>,
 *   search: () => void,
 *   signOut: () => void,
 * }} app
 */
export function sidebar({ conversations, me, stage, open, join, direct, search, signOut }) {
  const rooms = el("ul", { class: "rooms" });
  const directs = el("ul", { class: "rooms" });
  /** @type {Map<string, HTMLLIElement>} */
  const rows = new Map();

  const element = el(
    "aside",
    { class: "side", id: "side", "aria-label": "Conversations" },
    el(
      "div",
      { class: "side-head" },
      el("img", { src: "icons/mark.svg", alt: "", width: 30, height: 30 }),
      el("span", { class: "brand" }, "chatctl"),
      el("span", { class: "stage" }, stage),
      el(
        "button",
        { class: "quiet", title: "Go to… (Ctrl K)", "aria-label": "Go to conversation", onclick: search },
        icon("search"),
      ),
    ),
    el(
      "nav",
      { class: "side-lists", "aria-label": "Rooms and people", "data-testid": "room-list" },
      el("h2", {}, "Rooms"),
      rooms,
      opener("Join or create a room", "new-room", join),
      el("h2", {}, "Direct messages"),
      directs,
      opener("Message someone", "dm", direct),
    ),
    el(
      "div",
      { class: "side-me" },
      avatar(me),
      el("span", { class: "me-name", title: me }, me),
      el(
        "button",
        { class: "quiet", title: "Sign out", "aria-label": "Sign out", onclick: signOut },
        icon("leave"),
      ),
    ),
  );

  /** @param {import("./conversations.js").Conversation} conversation */
  function row(conversation) {
    const { room, peer } = conversation;
    let item = rows.get(room);
    if (!item) {
      const face = peer
        ? avatar(peer, { online: false })
        : el("span", { class: "hash", "aria-hidden": "true" }, "#");
      item = el(
        "li",
        {},
        el(
          "button",
          { class: "room", "data-testid": "room", "data-room": room, onclick: () => open(room) },
          face,
          el("span", { class: "room-name" }, peer ?? room),
          el("span", { class: "badge", "data-testid": "unread", hidden: true }),
          el("span", { class: "unseen" }),
        ),
      );
      rows.set(room, item);
    }
    const button = /** @type {HTMLElement} */ (item.firstElementChild);
    const count = unread(conversation);
    const badge = /** @type {HTMLElement} */ (button.querySelector(".badge"));
    badge.hidden = count === 0;
    badge.textContent = count > 99 ? "99+" : String(count);
    set(badge, { "data-count": String(count) });
    set(button, {
      "aria-current": conversations.active === room && "page",
      "data-unread": count > 0,
    });
    /** @type {Element} */ (button.lastElementChild).textContent = count > 0 ? "unread" : "";
    if (peer)
      showOnline(/** @type {Element} */ (button.querySelector(".avatar")), conversations.isOnline(peer));
    return item;
  }

  function render() {
    const named = conversations.rooms;
    const pairs = conversations.directs;
    arrange(rooms, named.map(row));
    arrange(directs, pairs.map(row));
    const living = new Set([...named, ...pairs].map(({ room }) => room));
    for (const room of rows.keys()) if (!living.has(room)) rows.delete(room);
  }

  return { element, render };
}

/**
 * A line to type a name into, behind a button's calm.
 * @param {string} label
 * @param {string} testid
 * @param {(name: string) => Promise<void>} act
 */
function opener(label, testid, act) {
  const hint = el("p", { class: "hint", role: "status", hidden: true });
  /** @param {string} text */
  const say = (text) => {
    hint.textContent = text;
    hint.hidden = text === "";
    set(hint, { "data-wrong": text !== "" });
  };
  const input = el("input", {
    "data-testid": testid,
    "aria-label": label,
    placeholder: label,
    maxlength: 64,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    enterkeyhint: "go",
    oninput: () => say(""),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" || (input.value === "" && hint.hidden)) return;
      event.stopPropagation();
      input.value = "";
      say("");
    },
  });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const name = input.value.trim().replace(/^[#@]/, "");
    if (name === "") return;
    if (!isName(name)) return say("Letters, digits and _ . : - only, without spaces.");
    try {
      input.value = "";
      await act(name);
    } catch (error) {
      input.value = name;
      say(/** @type {Error} */ (error).message);
    }
  };
  return el("form", { class: "opener", onsubmit: submit }, icon("plus"), input, hint);
}
