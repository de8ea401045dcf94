// The right side: who is online in the room in front, and who has spoken there before.

import { arrange, el, set } from "./dom.js";
import { avatar, showOnline } from "./people.js";

/**
 * @param {{
 *   conversations: import("./conversations.js").Conversations,
 *   me: string,
 *   direct: (user: string) => Promise<void>,
 *   closeButton: HTMLElement,
 * }} app
 */
export function memberList({ conversations, me, direct, closeButton }) {
  const online = el("ul", { class: "people" });
  const away = el("ul", { class: "people" });
  const onlineTitle = el("h2", {}, "Online");
  const awayTitle = el("h2", {}, "Seen here");
  /** @type {Map<string, HTMLLIElement>} */
  const rows = new Map();

  const element = el(
    "aside",
    { class: "members", id: "members", "aria-label": "People in this room", "data-testid": "members" },
    closeButton,
    onlineTitle,
    online,
    awayTitle,
    away,
  );

  /**
   * @param {string} user
   * @param {boolean} here
   */
  function row(user, here) {
    let item = rows.get(user);
    if (!item) {
      const self = user === me;
      const content = [
        avatar(user, { online: here }),
        el("span", { class: "person" }, user),
        self && el("span", { class: "you" }, "you"),
      ];
      const props = { class: "member", "data-testid": "member", "data-user": user };
      // Oneself one cannot message.
      const inner = self
        ? el("span", props, ...content)
        : el("button", { ...props, title: `Message ${user}`, onclick: () => void direct(user) }, ...content);
      item = el("li", {}, inner);
      rows.set(user, item);
    }
    const inner = /** @type {HTMLElement} */ (item.firstElementChild);
    set(inner, { "data-online": String(here) });
    showOnline(/** @type {Element} */ (inner.firstElementChild), here);
    return item;
  }

  function render() {
    const { active } = conversations;
    const people = active === null ? { online: [], away: [] } : conversations.people(active);
    arrange(
      online,
      people.online.map((user) => row(user, true)),
    );
    arrange(
      away,
      people.away.map((user) => row(user, false)),
    );
    onlineTitle.textContent = `Online · ${people.online.length}`;
    awayTitle.hidden = people.away.length === 0;
    return people.online.length;
  }

  return { element, render };
}
