// How the connection is doing, always in sight: a dot when all is well, words when it is not.

import { el, set } from "./dom.js";

const WORDS = {
  connecting: "Connecting…",
  online: "Online",
  reconnecting: "Reconnecting…",
  offline: "No network",
  closed: "Signed out",
};

/** @param {{ client: import("../chat-client.js").ChatClient }} app */
export function connectionStatus({ client }) {
  const word = el("span", { class: "state-word" });
  const element = el("span", { class: "state", "data-testid": "state", role: "status" }, word);
  const why = el("span", {});
  const banner = el(
    "div",
    { class: "banner", hidden: true },
    why,
    el("button", { onclick: () => client.wake() }, "Try now"),
  );
  /** @type {number | undefined} */
  let retryAt;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let patience;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let countdown;

  /** @param {{ state: import("../chat-client.d.ts").ConnectionState, retryAt?: number }} change */
  function show({ state, retryAt: next }) {
    set(element, { "data-state": state, title: WORDS[state] });
    word.textContent = WORDS[state];
    retryAt = next;
    if (state === "online" || state === "closed") {
      clearTimeout(patience);
      clearInterval(countdown);
      patience = countdown = undefined;
      banner.hidden = true;
      return;
    }
    // A blink of the connection is nobody's concern.
    patience ??= setTimeout(() => {
      banner.hidden = false;
      explain();
      countdown = setInterval(explain, 1_000);
    }, 1_500);
    explain();
  }

  function explain() {
    const seconds = retryAt === undefined ? 0 : Math.ceil((retryAt - Date.now()) / 1_000);
    const when = seconds > 0 ? `next attempt in ${seconds} s` : "trying now";
    const text = `${client.state === "offline" ? "No network" : "No connection to the server"}: ${when}. What you write is kept and sent later.`;
    if (why.textContent !== text) why.textContent = text;
  }

  return {
    element,
    banner,
    show,
    stop() {
      clearTimeout(patience);
      clearInterval(countdown);
    },
  };
}
