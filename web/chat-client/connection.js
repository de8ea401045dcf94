// Keeps one link to the server up: opens, notices death, backs off, moves to a fresh connection before the old one ends.

import { ChatError, IDENTITY_CODES } from "./error.js";
import { MINUTE, SECOND, backoff, rotationDelay, stretched } from "./clock.js";
import { Link } from "./link.js";

const OPEN_TIMEOUT = 15 * SECOND;
const HELLO_TIMEOUT = 15 * SECOND;
const RETIRE_TIMEOUT = 10 * SECOND;
/** API Gateway ends a connection that was silent for ten minutes. */
const HEARTBEAT_MAX = 9 * MINUTE;
const PROBE_TIMEOUT = 5 * SECOND;
/** A connection that lasts this long clears the count of failures. */
const STABLE_AFTER = 10 * SECOND;
/** A token is renewed, by moving to a new connection, this long before it expires. */
const TOKEN_MARGIN = 1 * MINUTE;
/** Codes of a hello that no further attempt will change. */
const FINAL_CODES = new Set(["FORBIDDEN", "UNSUPPORTED_VERSION"]);

/** @typedef {import("../chat-client.d.ts").ChatOptions} ChatOptions */
/** @typedef {import("../chat-client.d.ts").ConnectionState} ConnectionState */

export class Connection {
  /** @type {Link | null} */
  link = null;
  /** @type {ConnectionState} */
  state = "closed";

  #options;
  #clock;
  #port;
  /** Grows with every start and stop, so that what an earlier one began cannot touch a later one. */
  #epoch = 0;
  #dialing = false;
  /** @type {Link | null} the link that is being opened */
  #candidate = null;
  #attempt = 0;
  #wasOnline = false;
  #rotateAt = Infinity;
  /** Where the last attempt went. */
  #url = "";
  /** @type {any} the server's last word on a link that is about to close */
  #bye = null;
  /** @type {Map<string, unknown>} */
  #timers = new Map();
  /** @type {Set<{ resolve: Function, reject: Function, timer: unknown }>} */
  #waiting = new Set();
  /** @type {(() => void) | null} */
  #unwatch = null;

  /**
   * @param {ChatOptions} options
   * @param {import("../chat-client.d.ts").Clock} clock
   * @param {{
   *   hello: () => any,
   *   probe: () => any,
   *   probed: (answer: any) => void,
   *   frame: (frame: any) => void,
   *   online: (welcome: any) => void,
   *   state: (change: import("../chat-client.d.ts").StateEvent) => void,
   * }} port `hello` and `probe` make the frames for a new link and for asking whether a link still lives
   */
  constructor(options, clock, port) {
    this.#options = options;
    this.#clock = clock;
    this.#port = port;
  }

  start() {
    if (this.state !== "closed") return;
    this.#epoch += 1;
    this.#attempt = 0;
    this.#wasOnline = false;
    this.#watchSurroundings();
    this.#become("connecting");
    void this.#dial();
  }

  /** @param {ChatError} [error] why, when it was not the caller's wish */
  stop(error) {
    if (this.state === "closed") return;
    this.#epoch += 1;
    this.#dialing = false;
    this.#unwatch?.();
    this.#unwatch = null;
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    const ended = error ?? new ChatError("CLOSED", "the client was closed");
    const links = [this.#candidate, this.link];
    this.#candidate = this.link = null;
    for (const link of links) link?.drop(ended);
    this.#become("closed", { error });
    for (const waiter of [...this.#waiting]) this.#release(waiter).reject(ended);
  }

  /**
   * The link, as soon as there is one.
   * @param {number} timeoutMs
   * @returns {Promise<Link>}
   */
  online(timeoutMs) {
    if (this.link) return Promise.resolve(this.link);
    if (this.state === "closed") return Promise.reject(new ChatError("CLOSED", "the client is closed"));
    return new Promise((resolve, reject) => {
      const expire = () => {
        this.#release(waiter).reject(new ChatError("TIMEOUT", "not connected in time", { retry: true }));
      };
      const timer =
        timeoutMs === Infinity ? undefined : this.#clock.setTimeout(expire, Math.max(0, timeoutMs));
      const waiter = { resolve, reject, timer };
      this.#waiting.add(waiter);
    });
  }

  /** Something suggests that the world has changed: try now instead of later, or see whether the link still lives. */
  wake() {
    if (this.state === "closed") return;
    if (!this.link) {
      if (this.#timers.has("retry")) void this.#dial();
      return;
    }
    if (this.#clock.now() >= this.#rotateAt) void this.#dial();
    // An answer of any kind proves life; silence makes the link drop itself.
    this.link.request(this.#port.probe(), PROBE_TIMEOUT).then(this.#port.probed, () => {});
  }

  /**
   * Whether an error says that credentials no longer count; then the link ends here, and comes back with new ones or
   * not at all.
   * @param {ChatError} error
   */
  refused(error) {
    if (!IDENTITY_CODES.has(error.code)) return false;
    if (typeof this.#options.token === "function") this.link?.drop(error);
    else this.stop(error);
    return true;
  }

  async #dial() {
    if (this.#dialing || this.state === "closed") return;
    const epoch = this.#epoch;
    this.#dialing = true;
    this.#cancel("retry");
    if (!this.link) this.#become(this.#wasOnline ? "reconnecting" : "connecting");
    try {
      const { link, welcome } = await this.#open(epoch);
      if (epoch === this.#epoch) {
        this.#dialing = false;
        this.#adopt(link, welcome);
      }
    } catch (error) {
      if (epoch === this.#epoch) {
        this.#dialing = false;
        this.#notOpened(/** @type {ChatError} */ (error));
      }
    }
  }

  /** @param {number} epoch */
  async #open(epoch) {
    const { url, protocols } = await this.#address();
    if (epoch !== this.#epoch) throw new ChatError("CLOSED", "the client was closed");
    const WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket) throw new ChatError("UNSUPPORTED", "there is no WebSocket here: pass one in the options");
    const link = new Link(new WebSocket(url, protocols), this.#clock, {
      frame: (frame, from) => this.#receive(frame, from),
      down: (from, error) => this.#down(from, error),
    });
    this.#candidate = link;
    try {
      await link.opened(OPEN_TIMEOUT);
      const welcome = await link.request(this.#port.hello(), HELLO_TIMEOUT);
      if (!link.up)
        throw new ChatError("DISCONNECTED", "the connection ended right after hello", { retry: true });
      return { link, welcome };
    } catch (error) {
      link.drop(/** @type {ChatError} */ (error));
      throw error;
    } finally {
      if (this.#candidate === link) this.#candidate = null;
    }
  }

  async #address() {
    const { user, token } = this.#options;
    const url = new URL(await this.#current());
    this.#url = url.href;
    const protocols = ["chat.v1"];
    if (token !== undefined) {
      let jwt = token;
      if (typeof jwt === "function") {
        try {
          jwt = await jwt();
        } catch (cause) {
          if (cause instanceof ChatError) throw cause;
          throw new ChatError("TOKEN_UNAVAILABLE", "no token could be had", { retry: true, cause });
        }
      }
      protocols.push(`bearer.${jwt}`);
    } else if (user !== undefined) {
      url.searchParams.set("user", user);
    }
    return { url: url.href, protocols };
  }

  async #current() {
    const { url } = this.#options;
    if (typeof url !== "function") return url;
    try {
      return await url();
    } catch (cause) {
      throw new ChatError("UNAVAILABLE", "the address of the chat could not be had", { retry: true, cause });
    }
  }

  /**
   * @param {Link} link
   * @param {any} welcome
   */
  #adopt(link, welcome) {
    const old = this.link;
    this.link = link;
    this.#wasOnline = true;
    this.#bye = null;
    this.#arm("stable", STABLE_AFTER, () => (this.#attempt = 0));
    this.#beat(Math.min(HEARTBEAT_MAX, (welcome.heartbeat > 0 ? welcome.heartbeat : 540) * SECOND));
    this.#planRotation(welcome);
    this.#become("online");
    this.#port.online(welcome);
    old?.retire(RETIRE_TIMEOUT);
    for (const waiter of [...this.#waiting]) this.#release(waiter).resolve(link);
  }

  /** @param {ChatError} error */
  #notOpened(error) {
    const fixed = typeof this.#options.token !== "function";
    const final = FINAL_CODES.has(error.code) || error.code === "UNSUPPORTED" || error.code === "CLOSED";
    if (
      final ||
      (fixed && IDENTITY_CODES.has(error.code)) ||
      (error.code === "TOKEN_UNAVAILABLE" && !error.retry)
    ) {
      this.stop(error);
    } else {
      this.#retryLater(error, error.retryMs);
    }
  }

  /**
   * @param {Link} link
   * @param {ChatError} error
   */
  #down(link, error) {
    if (link !== this.link) return;
    this.link = null;
    for (const name of ["beat", "rotate", "stable"]) this.#cancel(name);
    const bye = this.#bye;
    this.#bye = null;
    if (bye?.retry === false) {
      this.stop(new ChatError(bye.code ?? "CLOSED", bye.message ?? bye.reason ?? "the server said goodbye"));
    } else if (this.#dialing) {
      this.#become("reconnecting", { error });
    } else {
      this.#retryLater(error, bye?.retry_ms);
    }
  }

  /**
   * @param {ChatError} error
   * @param {number} [serverMs] the wait the server asked for
   */
  #retryLater(error, serverMs) {
    const delay =
      serverMs === undefined ? backoff(this.#clock, this.#attempt) : stretched(this.#clock, serverMs);
    this.#attempt += 1;
    this.#arm("retry", delay, () => this.#dial());
    // A rotation that failed leaves the old link in service, so nothing has changed for anybody.
    if (this.link) return;
    const waiting = this.#wasOnline ? "reconnecting" : "connecting";
    this.#become(this.#networkUp() ? waiting : "offline", { error, retryAt: this.#clock.now() + delay });
  }

  /**
   * @param {any} frame
   * @param {Link} link
   */
  #receive(frame, link) {
    if (frame.type === "bye" && link === this.link) this.#bye = frame;
    if (frame.type === "reconnect" && link === this.link) {
      this.#arm("rotate", stretched(this.#clock, frame.retry_ms ?? 0), () => this.#dial());
    }
    if (frame.type === "error" && frame.id === undefined) this.refused(ChatError.fromFrame(frame));
    this.#port.frame(frame);
  }

  /** @param {any} welcome */
  #planRotation(welcome) {
    let delay = rotationDelay(this.#clock);
    if (typeof this.#options.token === "function" && welcome.expires > 0) {
      const left = welcome.expires * SECOND - this.#clock.now() - TOKEN_MARGIN;
      delay = Math.min(delay, Math.max(left, TOKEN_MARGIN));
    }
    this.#rotateAt = this.#clock.now() + delay;
    this.#arm("rotate", delay, () => this.#dial());
  }

  /** @param {number} interval */
  #beat(interval) {
    const link = this.link;
    const due = Math.max(1, (link?.sentAt ?? 0) + interval - this.#clock.now());
    this.#arm("beat", due, () => {
      if (!link?.up) return;
      if (this.#clock.now() - link.sentAt >= interval) link.ping();
      this.#beat(interval);
    });
  }

  #networkUp() {
    const hostname = URL.canParse(this.#url) ? new URL(this.#url).hostname : "";
    const loopback = hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
    return loopback || globalThis.navigator?.onLine !== false;
  }

  #watchSurroundings() {
    const target = this.#options.surroundings ?? (typeof window === "undefined" ? undefined : window);
    if (!target) return;
    const wake = () => {
      if (target.document?.visibilityState !== "hidden") this.wake();
    };
    const offline = () => {
      if (this.link) this.wake();
      else if (this.state !== "closed" && !this.#networkUp()) this.#become("offline");
    };
    /** @type {[any, string, () => void][]} */
    const watched = [
      [target, "online", wake],
      [target, "pageshow", wake],
      [target, "offline", offline],
      [target.document, "visibilitychange", wake],
    ];
    for (const [source, type, listener] of watched) source?.addEventListener(type, listener);
    this.#unwatch = () => {
      for (const [source, type, listener] of watched) source?.removeEventListener(type, listener);
    };
  }

  /**
   * @param {ConnectionState} state
   * @param {{ error?: ChatError, retryAt?: number }} [more]
   */
  #become(state, more = {}) {
    const previous = this.state;
    if (previous === state && more.retryAt === undefined) return;
    this.state = state;
    this.#port.state({ state, previous, ...more });
  }

  /**
   * @param {string} name one timer of each name at a time
   * @param {number} ms
   * @param {() => void} run
   */
  #arm(name, ms, run) {
    this.#cancel(name);
    const timer = this.#clock.setTimeout(() => {
      this.#timers.delete(name);
      run();
    }, ms);
    this.#timers.set(name, timer);
  }

  /** @param {string} name */
  #cancel(name) {
    this.#clock.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  /** @param {{ resolve: Function, reject: Function, timer: unknown }} waiter */
  #release(waiter) {
    this.#clock.clearTimeout(waiter.timer);
    this.#waiting.delete(waiter);
    return waiter;
  }
}
