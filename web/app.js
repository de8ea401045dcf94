// Starts the app: settings from the server, who this is, then the chat until they sign out.

import { ChatClient } from "./chat-client.js";
import { Conversations } from "./app/conversations.js";
import { chatView } from "./app/chat-view.js";
import * as memory from "./app/memory.js";
import { signIn } from "./app/sign-in.js";
import { subjectOf } from "./app/token.js";

const welcome = /** @type {HTMLElement} */ (document.getElementById("welcome"));
const chat = /** @type {HTMLElement} */ (document.getElementById("chat"));

/** @typedef {{ url: string, mode: "open" | "token", stage: string }} Config */

/** @returns {Promise<Config>} */
async function ask() {
  const answer = await fetch("config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`config.json: ${answer.status}`);
  return answer.json();
}

/** The settings, as soon as the server has them. */
async function settings() {
  for (let attempt = 0; ; attempt += 1) {
    const config = await ask().catch(() => null);
    // A page that came before its settings came with a policy that does not know the WebSocket yet.
    if (config && attempt > 0) location.reload();
    else if (config) return config;
    await new Promise((resolve) => setTimeout(resolve, Math.min(5_000, 250 * 2 ** attempt)));
  }
}

/**
 * Where the chat is now: a server that began anew may have another address for it.
 * @param {Config} known
 */
async function address(known) {
  const { url } = await ask().catch(() => known);
  if (new URL(url).origin !== new URL(known.url).origin) location.reload();
  return url;
}

/**
 * @param {Config} config
 * @param {string} [problem] why the last sign-in did not last
 */
async function run(config, problem) {
  const who = await signIn(welcome, config, problem);
  const storage = await memory.clientStorage(who.name);
  const client = new ChatClient({
    url: () => address(config),
    device: memory.deviceId(),
    storage,
    ...(who.token ? { token: who.token } : { user: who.name }),
  });
  /** @type {ReturnType<typeof chatView> | undefined} */
  let view;
  const conversations = new Conversations(client, memory.readMarks(who.name), (change) =>
    view?.changed(change),
  );
  view = chatView(chat, { client, conversations, me: who.name, stage: config.stage, signOut });
  welcome.hidden = true;
  chat.hidden = false;
  client.connect().catch(() => {});
  view.start();

  const leaving = () => client.flush();
  window.addEventListener("pagehide", leaving);
  client.on("state", ({ state, error }) => {
    if (state === "closed" && error) end(error.message);
  });

  function signOut() {
    memory.forgetName();
    end();
  }

  /** @param {string} [why] */
  function end(why) {
    window.removeEventListener("pagehide", leaving);
    client.close();
    view?.stop();
    chat.hidden = true;
    chat.replaceChildren();
    if (why) memory.forgetName();
    void run(config, why);
  }
}

const config = await settings();
if (config.mode === "token" && subjectOf(memory.rememberedToken()) === null) memory.rememberToken("");
void run(config);

// The shell then opens without the server too, and connects when it is back.
navigator.serviceWorker?.register("sw.js", { updateViaCache: "none" }).catch(() => {});
