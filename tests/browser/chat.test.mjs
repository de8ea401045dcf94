// Two people in two browsers chat: rooms, direct messages, unread counts, history, who is there, phone and keyboard.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Dev } from "./dev.mjs";
import { Person, launch, pair } from "./person.mjs";

let dev;
let browser;
before(async () => {
  [dev, browser] = await Promise.all([Dev.start(), launch()]);
});
after(async () => {
  await browser?.close();
  await dev?.stop();
});

test("two people see each other and what each says, once and in order", async () => {
  const alice = await Person.arrive(browser, dev, "alice", { room: "talk" });
  const bob = await Person.arrive(browser, dev, "bob", { room: "talk" });
  await alice.page.locator('[data-testid=member][data-user=bob] [data-online=true], [data-testid=member][data-user=bob][data-online=true]').first().waitFor({ state: "attached" });

  await alice.says("hello bob");
  await bob.sees("hello bob");
  await bob.says("hello alice");
  await alice.sees("hello alice");
  await alice.says("<b>not bold</b> & \"quoted\"");
  await bob.sees("<b>not bold</b> & \"quoted\"");
  await alice.sent("<b>not bold</b> & \"quoted\"");

  for (const person of [alice, bob]) {
    const messages = await person.messages();
    assert.deepEqual(messages.map(({ seq, from, text }) => [seq, from, text]), [
      [1, "alice", "hello bob"],
      [2, "bob", "hello alice"],
      [3, "alice", "<b>not bold</b> & \"quoted\""],
    ]);
  }
  await Promise.all([alice.leaves(), bob.leaves()]);
});

test("messages in another room are counted until they are read", async () => {
  const alice = await Person.arrive(browser, dev, "ann", { room: "one" });
  const bob = await Person.arrive(browser, dev, "ben", { room: "one" });
  await bob.joins("two");
  for (const text of ["first", "second", "third"]) {
    await alice.says(text);
    await alice.sent(text);
  }
  await bob.until("three are unread", async () => (await bob.unread("one").textContent()) === "3");
  await bob.opens("one");
  await bob.sees("third");
  await bob.until("nothing is unread", async () => !(await bob.unread("one").isVisible()));
  await Promise.all([alice.leaves(), bob.leaves()]);
});

test("a direct message opens a room of two that a third person does not get", async () => {
  const alice = await Person.arrive(browser, dev, "dora", { room: "direct" });
  const bob = await Person.arrive(browser, dev, "dirk", { room: "direct" });
  const eve = await Person.arrive(browser, dev, "eve", { room: "direct" });
  await alice.writesTo("dirk");
  await alice.says("psst");
  const room = pair("dora", "dirk");
  await bob.room(room).waitFor();
  await bob.until("it is unread", async () => (await bob.unread(room).textContent()) === "1");
  await bob.opens(room);
  await bob.sees("psst");
  await bob.says("what?");
  await alice.sees("what?");
  // Whatever eve was sent has arrived before this has.
  await eve.says("am I alone?");
  await eve.sent("am I alone?");
  assert.equal(await eve.page.locator(`[data-room="${room}"]`).count(), 0);
  await Promise.all([alice.leaves(), bob.leaves(), eve.leaves()]);
});

test("older messages come when one scrolls up", async () => {
  const ROOM = "scroll";
  const COUNT = 120;
  await talk(dev.url, "writer", ROOM, COUNT);
  const reader = await Person.arrive(browser, dev, "reader", { room: ROOM });
  await reader.sees(`message ${COUNT}`);
  assert.ok((await reader.messages()).length < COUNT, "everything was loaded at once");
  const list = reader.page.getByTestId("messages");
  await reader.until("the first message is there", async () => {
    await list.evaluate((element) => element.scrollTo(0, 0));
    return (await reader.messages())[0]?.seq === 1;
  });
  const messages = await reader.messages();
  assert.deepEqual(messages.map(({ seq }) => seq), Array.from({ length: COUNT }, (_, n) => n + 1));
  assert.deepEqual(messages.map(({ text }) => text), messages.map(({ seq }) => `message ${seq}`));
  await reader.leaves();
});

test("it works on a phone", async () => {
  const phone = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };
  const alice = await Person.arrive(browser, dev, "paula", { room: "phone", ...phone });
  const bob = await Person.arrive(browser, dev, "paul", { room: "phone" });
  await alice.says("from the phone");
  await bob.sees("from the phone");
  await bob.says("from the desk");
  await alice.sees("from the desk");
  const sizes = await alice.page.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    window: innerWidth,
    composer: document.querySelector("[data-testid=composer]").getBoundingClientRect().bottom,
    height: innerHeight,
  }));
  assert.ok(sizes.page <= sizes.window, `the page is ${sizes.page} wide on a screen of ${sizes.window}`);
  assert.ok(sizes.composer <= sizes.height, "the composer is below the screen");
  // The list of rooms is in a drawer.
  await alice.page.getByRole("button", { name: "Conversations" }).tap();
  await alice.joins("phone.two");
  assert.equal(await alice.page.getByTestId("composer").isVisible(), true);
  await Promise.all([alice.leaves(), bob.leaves()]);
});

test("it works by keyboard alone", async () => {
  const bob = await Person.arrive(browser, dev, "kurt", { room: "keys" });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${dev.web}#keys`);
  await page.getByTestId("name").waitFor();
  const { keyboard } = page;
  /** Tabs on until the element has the focus, as a person would. */
  const tabTo = async (testid) => {
    for (let n = 0; n < 40; n += 1) {
      if (await page.evaluate((id) => document.activeElement?.dataset.testid === id, testid)) return;
      await keyboard.press("Tab");
    }
    assert.fail(`${testid} cannot be reached by Tab`);
  };
  await tabTo("name");
  await keyboard.type("karla");
  await keyboard.press("Enter");
  await page.locator("[data-testid=state][data-state=online]").waitFor({ state: "attached" });
  await page.locator('[data-testid=room][data-room="keys"]').waitFor();
  await tabTo("composer");
  await keyboard.type("line one");
  await keyboard.press("Shift+Enter");
  await keyboard.type("line two");
  await keyboard.press("Enter");
  await bob.until("both lines are there", async () => (await bob.messages()).some(({ text }) => text === "line one\nline two"));
  await tabTo("new-room");
  await keyboard.type("keys.two");
  await keyboard.press("Enter");
  await page.locator('[data-testid=room][data-room="keys.two"][aria-current=page]').waitFor();
  await keyboard.press("Alt+ArrowUp");
  await page.locator('[data-testid=room][data-room="keys"][aria-current=page]').waitFor();
  await context.close();
  await bob.leaves();
});

test("who leaves a room gets nothing from it any more", async () => {
  const alice = await Person.arrive(browser, dev, "lea", { room: "leave" });
  const bob = await Person.arrive(browser, dev, "leo", { room: "leave" });
  await bob.page.getByTestId("leave").click();
  await bob.room("leave").waitFor({ state: "detached" });
  await alice.says("are you there?");
  await alice.sent("are you there?");
  await bob.joins("elsewhere");
  await bob.says("fence");
  await bob.sent("fence");
  assert.equal(await bob.room("leave").count(), 0);
  await Promise.all([alice.leaves(), bob.leaves()]);
});

test("the page may be installed, and its policy forbids everything else", async () => {
  const response = await fetch(dev.web);
  const policy = response.headers.get("content-security-policy");
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  const page = await (await browser.newContext()).newPage();
  await page.goto(dev.web);
  const href = await page.locator("link[rel=manifest]").getAttribute("href");
  const manifest = await (await fetch(new URL(href, dev.web))).json();
  assert.ok(manifest.name && manifest.start_url !== undefined);
  assert.ok(["standalone", "minimal-ui", "fullscreen"].includes(manifest.display));
  const sizes = manifest.icons.flatMap(({ sizes }) => sizes.split(" "));
  assert.ok(sizes.includes("192x192") && sizes.includes("512x512"), `icons of ${sizes}`);
  for (const { src, type } of manifest.icons) {
    const icon = await fetch(new URL(src, new URL(href, dev.web)));
    assert.equal(icon.status, 200, src);
    if (type) assert.equal(icon.headers.get("content-type"), type);
  }
  await page.context().close();
});

/** Says `message 1`, `message 2`, … through the project's own SDK. */
async function talk(url, user, room, count) {
  const [{ ChatClient }, { default: WebSocket }] = await Promise.all([
    import("../../web/chat-client.js"),
    import("ws"),
  ]);
  const client = new ChatClient({ url, user, WebSocket });
  await client.connect();
  await client.join(room);
  for (let n = 1; n <= count; n += 1) await client.send(room, `message ${n}`);
  client.close();
}
