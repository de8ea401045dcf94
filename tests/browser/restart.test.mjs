// The server is killed in the middle of a conversation and comes back: nothing lost, nothing twice, nothing to click.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Dev } from "./dev.mjs";
import { Person, launch } from "./person.mjs";

test("a server that is killed and comes back costs no message and shows none twice", async (t) => {
  const [dev, browser] = await Promise.all([Dev.start(), launch()]);
  t.after(async () => {
    await browser.close();
    await dev.stop();
  });
  const alice = await Person.arrive(browser, dev, "alice", { room: "stay" });
  const bob = await Person.arrive(browser, dev, "bob", { room: "stay" });
  const said = [];
  const say = async (person, text) => {
    said.push(text);
    await person.says(text);
  };
  await say(alice, "before");
  await bob.sees("before");
  // On its way while the server dies: nobody knows whether it arrived.
  await say(alice, "during");
  await dev.kill();
  for (const person of [alice, bob]) {
    await person.until("it is noticed", async () =>
      (await person.page.getByTestId("state").getAttribute("data-state")) !== "online");
  }
  await say(alice, "while it was gone");
  await say(bob, "me too");

  await dev.start();

  for (const person of [alice, bob]) await person.is("online");
  await say(alice, "after");
  for (const person of [alice, bob]) {
    for (const text of said) await person.sees(text);
    await person.until("everything is stored", async () =>
      (await person.messages()).every(({ state }) => state === "sent" || state === "received"));
    const messages = await person.messages();
    assert.deepEqual(messages.map(({ text }) => text).sort(), [...said].sort(), `what ${person.name} sees`);
    assert.deepEqual(messages.map(({ seq }) => seq), said.map((_, n) => n + 1), `numbers that ${person.name} sees`);
    const own = messages.filter(({ from }) => from === "alice").map(({ text }) => text);
    assert.deepEqual(own, ["before", "during", "while it was gone", "after"], "in the order they were said");
  }
  // A page that is loaded anew shows the same.
  await bob.page.reload();
  await bob.is("online");
  await bob.sees("after");
  assert.equal((await bob.messages()).length, said.length);
  await Promise.all([alice.leaves(), bob.leaves()]);
});
