// Ctrl K: go to any conversation by typing a part of its name, or open a new one.

import { isName } from "../chat-client.js";
import { unread } from "./conversations.js";
import { el, set } from "./dom.js";
import { avatar } from "./people.js";

/** @typedef {{ label: string, note: string, face: HTMLElement, go: () => void }} Choice */

/**
 * @param {{
 *   conversations: import("./conversations.js").Conversations,
 *   open: (room: string) => void,
 *   join: (room: string) => Promise<void>,
 *   direct: (user: string) => Promise<void>,
 *   tell: (error: unknown) => void,
 * }} app
 */
export function switcher({ conversations, open, join, direct, tell }) {
  /** @type {Choice[]} */
  let choices = [];
  let chosen = 0;

  const list = el("ul", { class: "choices", id: "choices", role: "listbox", "aria-label": "Conversations" });
  const input = el("input", {
    class: "switcher-text",
    role: "combobox",
    "aria-label": "Go to conversation",
    "aria-controls": "choices",
    "aria-expanded": "true",
    placeholder: "Go to…",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    oninput: () => ((chosen = 0), render()),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) {
        event.preventDefault();
        chosen = (chosen + step + choices.length) % Math.max(1, choices.length);
        render();
      } else if (event.key === "Enter") {
        event.preventDefault();
        pick(choices[chosen]);
      }
    },
  });
  const element = el(
    "dialog",
    {
      class: "switcher",
      "aria-label": "Go to conversation",
      onclick: (/** @type {Event} */ event) => event.target === element && element.close(),
    },
    input,
    list,
    el(
      "p",
      { class: "keys" },
      el("kbd", {}, "↑ ↓"),
      " choose ",
      el("kbd", {}, "Enter"),
      " go ",
      el("kbd", {}, "Alt ↑ ↓"),
      " next conversation ",
      el("kbd", {}, "Esc"),
      " close",
    ),
  );

  /** @param {string} query */
  function find(query) {
    const all = [...conversations.rooms, ...conversations.directs];
    // Without a query, what waits to be read comes first.
    const ordered = query ? all : all.sort((a, b) => Number(unread(b) > 0) - Number(unread(a) > 0));
    /** @type {Choice[]} */
    const found = ordered
      .filter(({ room, peer }) => (peer ?? room).toLowerCase().includes(query.toLowerCase()))
      .map(({ room, peer, ...rest }) => {
        const count = unread({ ...rest, room, peer });
        return {
          label: peer ?? room,
          note: count > 0 ? `${count} new` : "",
          face: face(peer),
          go: () => open(room),
        };
      });
    const here = new Set(all.map(({ room, peer }) => (peer === null ? `#${room}` : peer)));
    if (isName(query) && !here.has(`#${query}`)) {
      found.push({
        label: query,
        note: "join this room",
        face: face(null),
        go: () => void join(query).catch(tell),
      });
    }
    if (isName(query) && !here.has(query) && query !== conversations.me) {
      found.push({
        label: query,
        note: "message them",
        face: face(query),
        go: () => void direct(query).catch(tell),
      });
    }
    return found;
  }

  function render() {
    choices = find(input.value.trim().replace(/^[#@]/, ""));
    list.replaceChildren(
      ...choices.map((choice, index) => {
        const selected = index === chosen;
        const props = {
          class: "choice",
          id: `choice-${index}`,
          role: "option",
          "aria-selected": String(selected),
        };
        return el(
          "li",
          { ...props, onclick: () => pick(choice) },
          choice.face,
          el("span", { class: "room-name" }, choice.label),
          el("span", { class: "note" }, choice.note),
        );
      }),
    );
    set(input, { "aria-activedescendant": choices.length > 0 && `choice-${chosen}` });
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  /** @param {Choice | undefined} choice */
  function pick(choice) {
    if (!choice) return;
    element.close();
    choice.go();
  }

  return {
    element,
    open() {
      if (element.open) return element.close();
      input.value = "";
      chosen = 0;
      render();
      element.showModal();
    },
  };
}

/** @param {string | null} peer */
function face(peer) {
  return peer === null ? el("span", { class: "hash", "aria-hidden": "true" }, "#") : avatar(peer);
}
