// The one error type of the client: what failed, and whether and when trying again makes sense.

/** Codes that mean "who you are" was not accepted, so only other credentials can help. */
export const IDENTITY_CODES = new Set(["UNAUTHENTICATED", "TOKEN_EXPIRED"]);

export class ChatError extends Error {
  /**
   * @param {import("../chat-client.d.ts").ErrorCode} code
   * @param {string} message
   * @param {{ retry?: boolean, retryMs?: number, cause?: unknown }} [more]
   */
  constructor(code, message, { retry = false, retryMs, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ChatError";
    this.code = code;
    this.retry = retry;
    this.retryMs = retryMs;
  }

  /**
   * Outcomes that leave it open whether the server acted. A send must look at the room before it tries again, since
   * the server remembers ids only as far back as the tail of the room.
   */
  get uncertain() {
    return (
      this.code === "TIMEOUT" ||
      this.code === "DISCONNECTED" ||
      this.code === "GATEWAY" ||
      this.code === "INTERNAL"
    );
  }

  /** @param {any} frame */
  static fromFrame(frame) {
    return new ChatError(frame.code ?? "INTERNAL", frame.message ?? `the server answered ${frame.code}`, {
      retry: frame.retry === true,
      retryMs: Number.isFinite(frame.retry_ms) ? frame.retry_ms : undefined,
    });
  }
}
