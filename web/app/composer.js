// Where one writes: grows with the text, keeps a draft per conversation, counts only when it matters.

import { LIMITS, textLength } from "../chat-client.js";
import { el, icon, set } from "./dom.js";

/** How many characters before the limit the counter shows. */
const NEAR_LIMIT = 400;

/**
 * @param {{
 *   drafts: { get: (room: string) => string, set: (room: string, text: string) => void },
 *   send: (text: string) => void,
 *   scroll: (pages: number) => void,
 * }} app
 */
export function composer({ drafts, send, scroll }) {
  /** @type {string | null} */
  let room = null;

  const counter = el("span", { class: "counter", id: "counter", "aria-live": "polite", hidden: true });
  const input = el("textarea", {
    class: "composer-text",
    "data-testid": "composer",
    rows: 1,
    enterkeyhint: "send",
    autocomplete: "off",
    dir: "auto",
    "aria-label": "Message",
    "aria-describedby": "counter",
    oninput: update,
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "PageUp" || event.key === "PageDown") {
        event.preventDefault();
        return scroll(event.key === "PageUp" ? -1 : 1);
      }
      // While an input method composes, Enter picks a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      submit();
    },
  });
  const button = el(
    "button",
    { class: "send", "data-testid": "send", "aria-label": "Send", title: "Send (Enter)" },
    icon("send"),
  );
  const element = el(
    "form",
    {
      class: "composer",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        submit();
        input.focus();
      },
    },
    el("div", { class: "composer-box" }, input, counter, button),
  );

  function submit() {
    const text = input.value.trim();
    if (text === "" || textLength(text) > LIMITS.text) return;
    input.value = "";
    update();
    send(text);
  }

  function update() {
    if (room !== null) drafts.set(room, input.value);
    const length = textLength(input.value.trim());
    const left = LIMITS.text - length;
    counter.hidden = left > NEAR_LIMIT;
    counter.textContent = left >= 0 ? `${left} left` : `${-left} too many`;
    set(counter, { "data-over": left < 0 });
    button.disabled = length === 0 || left < 0;
    // Measured from one line, so that it also shrinks.
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  }

  return {
    element,
    /**
     * @param {string | null} next
     * @param {string} label whom or what one writes to
     */
    show(next, label) {
      if (input.placeholder !== label) input.placeholder = label;
      element.hidden = next === null;
      if (room === next) return;
      room = next;
      input.value = next === null ? "" : drafts.get(next);
      update();
    },
    focus: () => input.focus({ preventScroll: true }),
  };
}
