// `chatctl dev` as a person starts it, on free ports and with a state of its own; killed and started again at will.

import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const ROOT = resolve(import.meta.dirname, "../..");
const START_MS = 300_000; // the first start may have to build the handlers

const SETTINGS = `
app: chat
stages:
  local:
    endpoint: local
    auth: { mode: open }
    lambda: { architecture: native }
    throttling: { rate: 10000, burst: 5000 }
    control_plane: { rate: 0 }
    build: { profile: dev }
`;

export class Dev {
  #process;
  #said = [];

  static async start() {
    const dev = new Dev();
    dev.folder = await mkdtemp(join(tmpdir(), "chatctl-browser-"));
    await writeFile(join(dev.folder, "chat.yaml"), SETTINGS);
    [dev.port, dev.webPort] = await freePorts(2);
    await dev.start();
    return dev;
  }

  /** Starts, or starts again where it was. */
  async start() {
    const args = ["dev", "--json", "--no-open", "--port", String(this.port), "--web-port", String(this.webPort)];
    const child = spawn(process.env.CHATCTL ?? join(ROOT, "target/debug/chatctl"), args, {
      cwd: ROOT,
      env: {
        ...process.env,
        CHATCTL_SETTINGS: join(this.folder, "chat.yaml"),
        CHATCTL_STATE_DIR: join(this.folder, "state"),
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process = child;
    let timer;
    const ready = new Promise((done, fail) => {
      timer = setTimeout(() => fail(new Error(`dev is not ready after ${START_MS} ms`)), START_MS);
      child.on("error", fail);
      child.on("exit", (code, signal) => fail(new Error(`dev ended with ${code ?? signal}:\n${this.#said.join("\n")}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        this.#said.push(line);
        if (this.#said.length > 50) this.#said.shift();
        const event = JSON.parse(line);
        if (event.event === "ready") done(event);
      });
    });
    try {
      const { web, websocket_url } = await ready;
      this.web = web;
      this.url = websocket_url;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends it without a chance to say goodbye. */
  async kill() {
    await ended(this.#process, "SIGKILL");
  }

  /** Ends it as Ctrl-C does, and forgets its data. */
  async stop() {
    const child = this.#process;
    await ended(child, "SIGINT");
    const left = await leftovers(this.folder);
    await rm(this.folder, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`processes that outlived dev: ${left}`);
  }
}

async function ended(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const end = new Promise((done) => child.once("exit", done));
  child.kill(signal);
  await end;
}

/** Processes that still have this run's settings in their environment. */
async function leftovers(folder) {
  const { stdout } = spawnSync("ps", ["-eo", "pid="], { encoding: "utf8" });
  const left = [];
  for (const pid of (stdout ?? "").split(/\s+/).filter((pid) => pid && pid !== String(process.pid))) {
    const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    if (environment.includes(folder)) left.push(pid);
  }
  return left;
}

async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, () => new Promise((done) => {
      const server = createServer().listen(0, "127.0.0.1", () => done(server));
    })),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
