// How people look when all that is known of them is a name: a colour and a letter or two, the same on every screen.

import { el, set } from "./dom.js";

/**
 * A hue from a name. Multiples of the golden angle, so that similar names look different.
 * @param {string} name
 */
export function hue(name) {
  let hash = 2166136261;
  for (const char of name) hash = Math.imul(hash ^ /** @type {number} */ (char.codePointAt(0)), 16777619);
  return Math.round(((hash >>> 0) * 137.508) % 360);
}

/** @param {string} name */
export function initials(name) {
  const parts = name.split(/[^A-Za-z0-9]+/).filter(Boolean);
  const letters = parts.length > 1 ? parts[0][0] + parts[1][0] : (parts[0] ?? name).slice(0, 1);
  return letters.toUpperCase();
}

/**
 * @param {string} name
 * @param {{ online?: boolean }} [more] leave out where presence is not shown
 */
export function avatar(name, { online } = {}) {
  const face = el("span", { class: "avatar", "aria-hidden": "true" }, initials(name));
  // Through the object model, which the content security policy allows; a style attribute it would not.
  face.style.setProperty("--hue", String(hue(name)));
  if (online !== undefined) showOnline(face, online);
  return face;
}

/**
 * @param {Element} face
 * @param {boolean} online
 */
export function showOnline(face, online) {
  set(face, { "data-online": String(online) });
}
