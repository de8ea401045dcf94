// Time and chance, in one place so that tests can own both; and the waiting times that depend on them.

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;

const BACKOFF_FIRST = 0.5 * SECOND;
const BACKOFF_MAX = 30 * SECOND;

/** @type {import("../chat-client.d.ts").Clock} */
export const systemClock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => globalThis.setTimeout(run, ms),
  clearTimeout: (id) => globalThis.clearTimeout(id),
  random: () => Math.random(),
};

/**
 * Full jitter: anything from nothing to a bound that doubles, so that clients cut off together do not return together.
 * @param {import("../chat-client.d.ts").Clock} clock
 * @param {number} attempt 0 for the first
 */
export function backoff(clock, attempt) {
  return clock.random() * Math.min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** Math.min(attempt, 16));
}

/**
 * A wait that the server asked for, stretched by up to a quarter for the same reason.
 * @param {import("../chat-client.d.ts").Clock} clock
 * @param {number} ms
 */
export function stretched(clock, ms) {
  return ms * (1 + clock.random() / 4);
}

/**
 * Between 100 and 115 minutes: API Gateway ends every connection at two hours.
 * @param {import("../chat-client.d.ts").Clock} clock
 */
export function rotationDelay(clock) {
  return (100 + 15 * clock.random()) * MINUTE;
}
