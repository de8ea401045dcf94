// The public face of the client. Times are milliseconds since 1970 or in milliseconds, unless a name says otherwise.

/** Codes of the server (upper part) and of the client itself. */
export type ErrorCode =
  | "BAD_JSON"
  | "BAD_REQUEST"
  | "UNKNOWN_ACTION"
  | "TOO_LARGE"
  | "UNAUTHENTICATED"
  | "TOKEN_EXPIRED"
  | "FORBIDDEN"
  | "NOT_IN_ROOM"
  | "NOT_FOUND"
  | "RATE_LIMITED"
  | "CONFLICT"
  | "UNSUPPORTED_VERSION"
  | "UNAVAILABLE"
  | "INTERNAL"
  /** No answer, or no connection, in time. */
  | "TIMEOUT"
  /** The connection ended before the answer came. */
  | "DISCONNECTED"
  /** The gateway in front of the handlers reported a failure. */
  | "GATEWAY"
  /** The client was closed, or the thing was left or discarded. */
  | "CLOSED"
  /** The `token` function failed. */
  | "TOKEN_UNAVAILABLE"
  /** There is no WebSocket here. */
  | "UNSUPPORTED";

export class ChatError extends Error {
  constructor(
    code: ErrorCode,
    message: string,
    more?: { retry?: boolean; retryMs?: number; cause?: unknown },
  );
  readonly code: ErrorCode;
  /** Whether the same thing may succeed later. */
  readonly retry: boolean;
  /** How long the server asked to wait before that. */
  readonly retryMs: number | undefined;
  /** Whether the server may have acted all the same. */
  readonly uncertain: boolean;
}

/**
 * - `connecting`: not yet online for the first time.
 * - `online`: frames flow.
 * - `reconnecting`: was online, and will be again by itself.
 * - `offline`: the device says it has no network; tried again at once when that changes.
 * - `closed`: not started, closed, or refused for good.
 */
export type ConnectionState = "connecting" | "online" | "reconnecting" | "offline" | "closed";

export interface Message {
  room: string;
  /** 1, 2, 3 … in each room, without gaps. */
  seq: number;
  from: string;
  /** The id its sender gave it. */
  mid: string;
  /** Server time. */
  ts: number;
  body: { text: string; [more: string]: unknown };
  /** Whether this client's user sent it, from here or from another device. */
  own: boolean;
}

export interface Outgoing {
  id: string;
  room: string;
  body: { text: string; [more: string]: unknown };
  /** When it was handed to the client. */
  at: number;
  state: "queued" | "sending" | "sent" | "failed" | "discarded";
  attempts: number;
  /** Why it failed. */
  error?: { code: ErrorCode; message: string };
}

export interface Ack {
  id: string;
  room: string;
  seq: number;
  ts: number;
  /** The server had it already: an earlier attempt had arrived. */
  dup: boolean;
}

export interface RoomInfo {
  room: string;
  /** Everything up to here was delivered. */
  seq: number;
  /** The newest the server has named. */
  head: number;
  joined: boolean;
  /** A room of two. */
  direct: boolean;
}

export interface Page {
  room: string;
  /** Oldest first. */
  messages: Message[];
  /** Whether there is more in the direction that was asked for. */
  more: boolean;
}

export interface StateEvent {
  state: ConnectionState;
  previous: ConnectionState;
  /** What went wrong, if something did. */
  error?: ChatError;
  /** When the next attempt is due. */
  retryAt?: number;
}

export interface Welcome {
  v: 1;
  user: string;
  /** Display name. */
  name: string;
  conn: string;
  heartbeat: number;
  /** When this connection ends at the latest, in seconds since 1970. */
  expires: number;
}

export interface ChatEvents {
  state: StateEvent;
  /** After every connection, planned or not. */
  welcome: Welcome;
  /** In order of `seq` in each room, each exactly once. */
  message: Message;
  /** A message of the outbox changed its state. */
  outgoing: Outgoing & { ack?: Ack };
  presence: { room: string; user: string; online: boolean };
  /** A room is new, also when somebody else opened a room of two, or its head moved. */
  room: RoomInfo;
  /** Messages `from` to `to` will not be delivered: expired, or more than `maxCatchUp`. `history` may have them. */
  gap: { room: string; from: number; to: number };
  /** The room began anew, counting from 1: forget what was kept of it. */
  reset: { room: string };
  /** The server did not let the user back into a room. */
  refused: { room: string; error: ChatError };
  /** Errors that belong to no call. */
  error: ChatError;
  /** The server's reason for closing. */
  bye: { code?: ErrorCode; message?: string; retry?: boolean; retry_ms?: number };
}

/** What a new client needs to go on where an old one stopped. A plain JSON value. */
export interface SavedState {
  user: string | undefined;
  rooms: { room: string; seq: number | null; joined: boolean }[];
  outbox: Outgoing[];
}

/** Both are called synchronously, `save` after every change of the outbox. */
export interface ChatStorage {
  load(): SavedState | null | undefined;
  save(state: SavedState): void;
}

export interface Clock {
  now(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
  /** From 0 to just below 1. */
  random(): number;
}

export interface ChatOptions {
  /** `ws://` or `wss://`, with the stage; or a function that is asked for it at every connect. */
  url: string | URL | (() => string | URL | Promise<string | URL>);
  /** Open mode: who this is. */
  user?: string;
  /** Token mode: the token, or a function that is asked for one at every connect. */
  token?: string | (() => string | Promise<string>);
  /** Tells this device from the user's others. */
  device?: string;
  /** Needed where there is no global one, such as in Node before 22. */
  WebSocket?: new (url: string, protocols: string[]) => any;
  storage?: ChatStorage;
  /** With more missed messages than this in a room, only the newest page is delivered, after a `gap`. 500. */
  maxCatchUp?: number;
  /** Where `online`, `offline`, `pageshow` and, on its document, `visibilitychange` happen. `window`. */
  surroundings?: EventTarget & { document?: EventTarget & { visibilityState?: string } };
  /** For tests. */
  clock?: Clock;
}

export class ChatClient {
  constructor(options: ChatOptions);

  readonly state: ConnectionState;
  /** In token mode unknown before the first welcome, unless the storage knows. */
  readonly user: string | undefined;
  readonly rooms: RoomInfo[];
  /** What has no ack yet, failed messages included; oldest first within each room. */
  readonly outbox: Outgoing[];

  /** Returns a function that stops listening. */
  on<T extends keyof ChatEvents>(type: T, listener: (detail: ChatEvents[T]) => void): () => void;

  /** Starts, and keeps, the connection. Resolves when first online, rejects when that turns out to be impossible. */
  connect(): Promise<void>;
  /** Ends the connection for good. What was not sent stays in the outbox, and in the storage. */
  close(): void;
  /** Looks at once whether the connection lives, or tries at once to get one. */
  wake(): void;

  /** Joins a named room, now and after every reconnect, and says what was said there last. */
  join(room: string): Promise<Page>;
  /**
   * Leaves a named room, or forgets a room of two until somebody writes there or the client connects again. What is not
   * sent yet is discarded.
   */
  leave(room: string): Promise<void>;
  /** Says the name of the room of two with `peer`, and follows it from now on. Needs no join. */
  direct(peer: string): Promise<string>;

  /** Resolves with the ack, however many connections that takes; rejects when the message failed for good. */
  send(room: string, body: string | { text: string }, more?: { id?: string }): Promise<Ack>;
  sendTo(peer: string, body: string | { text: string }, more?: { id?: string }): Promise<Ack>;
  /** Tries a failed message again, under the same id. */
  retry(id: string): boolean;
  /** Forgets a message that is not being sent at this moment. */
  discard(id: string): boolean;

  /** Without a range the newest. */
  history(room: string, range?: { before?: number; after?: number; limit?: number }): Promise<Page>;
  /** Asks who is online, and keeps the answer fresh from now on: see `members` and the event `presence`. */
  who(room: string): Promise<string[]>;
  /** Who is online as far as known; those who left a moment ago count until their grace is over. */
  members(room: string): string[];

  /** Hands the storage everything it does not have yet; for `pagehide`. */
  flush(): void;
}

export const LIMITS: Readonly<{ text: number; frameBytes: number; resume: number; page: number }>;

/** Whether it can name a user or a room: 1 to 64 of `A-Z a-z 0-9 _ . : -`. */
export function isName(value: unknown): value is string;
/** The name of the room of two. */
export function directRoom(one: string, other: string): string;
/** The other person in a room of two; `null` if it is no such room or not `me`'s. */
export function directPeer(room: string, me: string): string | null;
/** Unicode characters, as the server counts them. */
export function textLength(text: string): number;
/** A fresh id for a message; ids sort by age. */
export function newId(now?: number): string;
