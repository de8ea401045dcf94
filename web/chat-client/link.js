// One WebSocket from opening to its end: frames in and out, and answers matched to requests by `id`.

import { ChatError } from "./error.js";
import { SECOND } from "./clock.js";

/** After an error of the gateway, which names no request, what is still unanswered gets this long. */
const GATEWAY_GRACE = 1 * SECOND;
/** How long a ping may stay unanswered on a server that has answered one before. */
const PONG_WAIT = 10 * SECOND;

export class Link {
  /** @type {any} */
  #socket;
  #clock;
  #handlers;
  /** @type {Map<string, { resolve: Function, reject: Function, timer: unknown, sentAt: number }>} */
  #pending = new Map();
  #down = false;
  #heardAt = 0;
  #answersPings = false;
  /** @type {unknown} */
  #pongTimer;
  /** @type {{ resolve: Function, reject: Function } | null} */
  #opening = null;

  /** @type {(() => void) | null} */
  #whenIdle = null;
  /** @type {unknown} */
  #retireTimer;

  /** When the last frame went out; a heartbeat is due only after silence. */
  sentAt = 0;

  /**
   * @param {any} socket an object with the interface of WebSocket
   * @param {import("../chat-client.d.ts").Clock} clock
   * @param {{ frame: (frame: any, link: Link) => void, down: (link: Link, error: ChatError) => void }} handlers
   */
  constructor(socket, clock, handlers) {
    this.#socket = socket;
    this.#clock = clock;
    this.#handlers = handlers;
    socket.onopen = () => {
      this.#opening?.resolve();
      this.#opening = null;
    };
    socket.onmessage = (/** @type {{ data: unknown }} */ event) => this.#receive(event.data);
    socket.onerror = () => {};
    socket.onclose = (/** @type {{ code: number, reason: string }} */ event) => {
      const why = event.reason ? `: ${event.reason}` : "";
      this.drop(new ChatError("DISCONNECTED", `the connection ended (${event.code}${why})`, { retry: true }));
    };
  }

  get up() {
    return !this.#down;
  }

  /** @param {number} timeoutMs */
  async opened(timeoutMs) {
    const timer = this.#clock.setTimeout(() => {
      this.drop(new ChatError("TIMEOUT", "the connection did not open in time", { retry: true }));
    }, timeoutMs);
    try {
      await new Promise((resolve, reject) => (this.#opening = { resolve, reject }));
    } finally {
      this.#clock.clearTimeout(timer);
    }
  }

  /** @param {any} frame */
  post(frame) {
    this.sentAt = this.#clock.now();
    this.#socket.send(JSON.stringify(frame));
  }

  /**
   * Sends a frame and waits for the frame that carries the same `id`.
   * @param {any} frame
   * @param {number} timeoutMs
   * @returns {Promise<any>}
   */
  request(frame, timeoutMs) {
    return new Promise((resolve, reject) => {
      if (this.#down)
        return reject(new ChatError("DISCONNECTED", "the connection has ended", { retry: true }));
      const sentAt = this.#clock.now();
      const timer = this.#clock.setTimeout(() => this.#expire(frame.id), timeoutMs);
      this.#pending.set(frame.id, { resolve, reject, timer, sentAt });
      try {
        this.post(frame);
      } catch (cause) {
        this.#take(frame.id)?.reject(
          new ChatError("DISCONNECTED", "the frame could not be sent", { retry: true, cause }),
        );
      }
    });
  }

  /**
   * Answers a request from other evidence than the server's answer, such as one's own message coming by.
   * @param {string} id
   * @param {any} frame
   */
  settle(id, frame) {
    this.#take(id)?.resolve(frame);
  }

  /**
   * Ends the link as soon as nothing waits for an answer on it, at the latest after `timeoutMs`.
   * @param {number} timeoutMs
   */
  retire(timeoutMs) {
    const replaced = new ChatError("DISCONNECTED", "the connection was replaced", { retry: true });
    this.#whenIdle = () => this.drop(replaced);
    if (this.#pending.size === 0) this.drop(replaced);
    else this.#retireTimer = this.#clock.setTimeout(() => this.drop(replaced), timeoutMs);
  }

  /** Keeps the connection from idling out; where the server answers pings, silence afterwards ends it. */
  ping() {
    if (this.#down) return;
    this.post({ action: "ping" });
    if (!this.#answersPings) return;
    this.#clock.clearTimeout(this.#pongTimer);
    this.#pongTimer = this.#clock.setTimeout(() => {
      this.drop(new ChatError("DISCONNECTED", "a ping was not answered", { retry: true }));
    }, PONG_WAIT);
  }

  /**
   * Ends the link at once, without waiting for a closing handshake that a dead peer would never complete.
   * @param {ChatError} error
   */
  drop(error) {
    if (this.#down) return;
    this.#down = true;
    this.#clock.clearTimeout(this.#pongTimer);
    this.#clock.clearTimeout(this.#retireTimer);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      socket.close(1000);
    } catch {
      // Not open yet, or already gone: either way there is nothing left to end.
    }
    this.#opening?.reject(error);
    this.#opening = null;
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(error);
    this.#handlers.down(this, error);
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heardAt = this.#clock.now();
    this.#clock.clearTimeout(this.#pongTimer);
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (frame === null || typeof frame !== "object") return;
    if (typeof frame.type !== "string") return this.#hasten();
    if (frame.type === "pong") this.#answersPings = true;
    // Listeners first: whoever awaits the answer then sees what the frame brought.
    this.#handlers.frame(frame, this);
    if (frame.id === undefined) return;
    const request = this.#take(frame.id);
    if (frame.type === "error") request?.reject(ChatError.fromFrame(frame));
    else request?.resolve(frame);
  }

  /** A frame without `type` is the gateway's own: something failed, and nothing says what. */
  #hasten() {
    for (const [id, request] of this.#pending) {
      this.#clock.clearTimeout(request.timer);
      request.timer = this.#clock.setTimeout(() => {
        this.#take(id)?.reject(new ChatError("GATEWAY", "the gateway reported a failure", { retry: true }));
      }, GATEWAY_GRACE);
    }
  }

  /** @param {string} id */
  #expire(id) {
    const request = this.#take(id);
    if (!request) return;
    request.reject(new ChatError("TIMEOUT", "no answer in time", { retry: true }));
    if (this.#heardAt <= request.sentAt) {
      this.drop(new ChatError("DISCONNECTED", "the connection went silent", { retry: true }));
    }
  }

  /** @param {string} id */
  #take(id) {
    const request = this.#pending.get(id);
    if (request) this.#clock.clearTimeout(request.timer);
    this.#pending.delete(id);
    // Not at once: whoever took the request has yet to answer it.
    if (this.#pending.size === 0 && this.#whenIdle) queueMicrotask(this.#whenIdle);
    return request;
  }
}
