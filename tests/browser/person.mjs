// Somebody at a browser of their own: `await alice.says("hi")`, `await bob.sees("hi")`. Whatever the page asks of the
// network and whatever it complains about is kept, and judged at the end.

import assert from "node:assert/strict";

import { chromium } from "playwright-core";

/** For whatever a test waits: long, since only a failing test waits so long. */
export const PATIENCE = 20_000;

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

export class Person {
  /** What the page asked for, and what it complained about. */
  requests = [];
  complaints = [];

  constructor(name, dev, context, page) {
    Object.assign(this, { name, dev, context, page });
  }

  /** Opens the page in a browser profile of their own and signs in. */
  static async arrive(browser, dev, name, { room, ...options } = {}) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const person = new Person(name, dev, context, page);
    person.#listen();
    // The page itself reports what its policy forbids; a violation need not reach the console.
    await page.addInitScript(() => {
      window.violations = [];
      addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
        window.violations.push(`${violatedDirective}: ${blockedURI}`);
      });
    });
    await page.goto(room ? `${dev.web}#${encodeURIComponent(room)}` : dev.web);
    await page.getByTestId("name").fill(name);
    await page.getByTestId("enter").click();
    await person.is("online");
    return person;
  }

  #listen() {
    const note = (url) => this.requests.push(url);
    this.page.on("request", (request) => note(request.url()));
    this.page.on("websocket", (socket) => note(socket.url()));
    this.page.on("pageerror", (error) => this.complaints.push(error.stack ?? String(error)));
    this.page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy/i.test(message.text())) {
        this.complaints.push(message.text());
      }
    });
  }

  async is(state) {
    await this.page.locator(`[data-testid=state][data-state=${state}]`).waitFor({ state: "attached" });
  }

  async joins(room) {
    await this.page.getByTestId("new-room").fill(room);
    await this.page.getByTestId("new-room").press("Enter");
    await this.#inFront(room);
  }

  async opens(room) {
    await this.room(room).click();
    await this.#inFront(room);
  }

  async writesTo(user) {
    await this.page.getByTestId("dm").fill(user);
    await this.page.getByTestId("dm").press("Enter");
    await this.#inFront(pair(this.name, user));
  }

  room(room) {
    return this.page.locator(`[data-testid=room][data-room="${room}"]`);
  }

  async #inFront(room) {
    await this.page.locator(`[data-testid=room][data-room="${room}"][aria-current=page]`).waitFor({ state: "attached" });
  }

  async says(text) {
    await this.page.getByTestId("composer").fill(text);
    await this.page.getByTestId("send").click();
  }

  /** The message with exactly this text in the room in front. */
  message(text) {
    return this.page.getByTestId("message").filter({ has: this.page.getByText(text, { exact: true }) });
  }

  async sees(text) {
    await this.message(text).first().waitFor({ state: "attached" });
  }

  /** Waits until the own message is stored. */
  async sent(text) {
    await this.message(text).and(this.page.locator("[data-state=sent], [data-state=received]")).first().waitFor({ state: "attached" });
  }

  /** Texts and numbers of the room in front, from top to bottom. */
  messages() {
    return this.page.getByTestId("message").evaluateAll((items) =>
      items.map((item) => ({
        seq: Number(item.dataset.seq),
        from: item.dataset.from,
        state: item.dataset.state,
        text: item.querySelector(".text")?.textContent,
      })));
  }

  unread(room) {
    return this.room(room).getByTestId("unread");
  }

  /** Waits until something about the page is so. */
  async until(what, isSo) {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      if (await isSo()) return;
      assert.ok(Date.now() < deadline, `${this.name} waited ${PATIENCE} ms until ${what}`);
      await this.page.waitForTimeout(20);
    }
  }

  /** Goes, and is judged: no request left this machine's own two servers, no policy was violated, nothing broke. */
  async leaves() {
    const own = [new URL(this.dev.web).origin, new URL(this.dev.url).origin];
    const foreign = this.requests.filter((url) => !/^(data|blob):/.test(url) && !own.includes(new URL(url).origin));
    assert.deepEqual(foreign, [], "requests to elsewhere");
    this.complaints.push(...(await this.page.evaluate(() => window.violations)));
    assert.deepEqual(this.complaints, []);
    await this.context.close();
  }
}

/** The room of two. */
export function pair(one, other) {
  return `@${[one, other].sort().join(",")}`;
}
