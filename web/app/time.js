// Times as people say them, in their own language.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "long" });
const dateOfYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

/**
 * Relative for an hour, the time of day afterwards: which day it was, the separators say.
 * @param {number} ts
 */
export function ago(ts, now = Date.now()) {
  const passed = now - ts;
  // Clocks differ a little; nothing is said in the future.
  if (passed < MINUTE) return relative.format(0, "second");
  if (passed < HOUR) return relative.format(-Math.floor(passed / MINUTE), "minute");
  return clock.format(ts);
}

/** @param {number} ts */
export function exact(ts) {
  return whole.format(ts);
}

/** @param {number} ts */
export function dayKey(ts) {
  const day = new Date(ts);
  return `${day.getFullYear()}-${day.getMonth()}-${day.getDate()}`;
}

/** @param {number} ts */
export function dayName(ts, now = Date.now()) {
  const days = Math.round((startOfDay(now) - startOfDay(ts)) / (24 * HOUR));
  if (days <= 0) return capital(relative.format(0, "day"));
  if (days === 1) return capital(relative.format(-1, "day"));
  if (days < 7) return weekday.format(ts);
  const sameYear = new Date(ts).getFullYear() === new Date(now).getFullYear();
  return (sameYear ? date : dateOfYear).format(ts);
}

/** @param {number} ts */
function startOfDay(ts) {
  return new Date(ts).setHours(0, 0, 0, 0);
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toLocaleUpperCase() + text.slice(1);
}
