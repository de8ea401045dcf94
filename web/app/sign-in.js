// Asks who this is: a name, or on stages that want one, a token. Whoever was here before goes straight in.

import { isName } from "../chat-client.js";
import { el, set } from "./dom.js";
import * as memory from "./memory.js";
import { subjectOf } from "./token.js";

/** @typedef {{ name: string, token?: string }} Identity */

/**
 * @param {HTMLElement} place
 * @param {{ mode: "open" | "token", stage: string }} config
 * @param {string} [problem]
 * @returns {Promise<Identity>}
 */
export async function signIn(place, config, problem) {
  const remembered = config.mode === "token" ? rememberedOwner() : await memory.rememberedName();
  if (remembered.enter && !problem) return accept(remembered);
  return new Promise((resolve) => {
    const form = config.mode === "token" ? tokenForm : nameForm;
    place.replaceChildren(
      card(
        form(remembered, problem, (identity) => resolve(accept(identity))),
        config.stage,
      ),
    );
    place.hidden = false;
    const input = /** @type {HTMLInputElement} */ (place.querySelector("input, textarea"));
    input.focus();
    input.select();
  });
}

/** @returns {{ name: string, token?: string, enter: boolean, taken?: boolean }} */
function rememberedOwner() {
  const token = memory.rememberedToken();
  const name = subjectOf(token);
  return name && token ? { name, token, enter: true } : { name: "", enter: false };
}

/** @param {Identity} identity */
function accept(identity) {
  const { name, token } = identity;
  if (token) memory.rememberToken(token);
  else memory.rememberName(name);
  return { name, token };
}

/**
 * @param {HTMLFormElement} form
 * @param {string} stage
 */
function card(form, stage) {
  return el(
    "div",
    { class: "card" },
    el("img", { class: "card-mark", src: "icons/mark.svg", alt: "", width: 72, height: 72 }),
    el("h1", {}, "chatctl"),
    el("p", { class: "card-lead" }, "Rooms and direct messages, on your own stage."),
    form,
    el("p", { class: "card-foot" }, `stage ${stage}`),
  );
}

/**
 * @param {{ name: string, taken?: boolean }} remembered
 * @param {string | undefined} problem
 * @param {(identity: Identity) => void} done
 */
function nameForm({ name, taken }, problem, done) {
  const hint = el("p", { class: "hint", id: "name-hint", role: "status" });
  const input = el("input", {
    id: "name",
    "data-testid": "name",
    value: name,
    maxlength: 64,
    autocomplete: "nickname",
    autocapitalize: "none",
    spellcheck: "false",
    enterkeyhint: "go",
    placeholder: "ada",
    "aria-describedby": "name-hint",
    oninput: () => {
      const wrong = input.value.trim() !== "" && !isName(input.value.trim());
      say(hint, wrong ? "Letters, digits and _ . : - only, without spaces." : usual, wrong);
    },
  });
  const usual = taken
    ? `${name} is already here in another tab. Take another name to talk with yourself.`
    : "Others will see this name. It is remembered on this device.";
  say(hint, problem ?? usual, Boolean(problem));
  return el(
    "form",
    {
      class: "card-form",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const chosen = input.value.trim();
        if (isName(chosen)) return done({ name: chosen });
        say(
          hint,
          chosen ? "Letters, digits and _ . : - only, without spaces." : "Every chat needs a name.",
          true,
        );
        input.focus();
      },
    },
    el("label", { for: "name" }, "Your name"),
    input,
    hint,
    el("button", { class: "primary", "data-testid": "enter" }, "Enter"),
  );
}

/**
 * @param {unknown} _remembered
 * @param {string | undefined} problem
 * @param {(identity: Identity) => void} done
 */
function tokenForm(_remembered, problem, done) {
  const hint = el("p", { class: "hint", id: "name-hint", role: "status" });
  const usual = "Made by: chatctl token --user NAME. It is kept in this tab only.";
  const input = el("textarea", {
    id: "name",
    "data-testid": "name",
    rows: 4,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    placeholder: "eyJhbGciOiJFZERTQSIs…",
    "aria-describedby": "name-hint",
    oninput: () => {
      const subject = subjectOf(input.value.trim());
      say(hint, subject ? `This is ${subject}.` : usual, false);
    },
  });
  say(hint, problem ?? usual, Boolean(problem));
  return el(
    "form",
    {
      class: "card-form",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const token = input.value.trim();
        const name = subjectOf(token);
        if (name) return done({ name, token });
        say(hint, "That is not a token, or it has expired.", true);
        input.focus();
      },
    },
    el("label", { for: "name" }, "Your token"),
    input,
    hint,
    el("button", { class: "primary", "data-testid": "enter" }, "Enter"),
  );
}

/**
 * @param {HTMLElement} hint
 * @param {string} text
 * @param {boolean} wrong
 */
function say(hint, text, wrong) {
  hint.textContent = text;
  set(hint, { "data-wrong": wrong });
}
