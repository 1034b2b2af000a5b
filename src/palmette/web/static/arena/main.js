// The page of the arena: what keys and buttons do to it, and what it says to the server.

import { actionOf } from "./keys.js";
import { alertOf, page, say, show, text, unsent, unsentOfMine } from "./view.js";
import { $ } from "../common/page.js";
import { ask, letIn } from "../common/server.js";

const RETRY = 3000; // milliseconds until an unsent vote is tried again

function act(name) {
  if (page.busy) return;
  if (name === "undo") {
    if (page.last && !page.last.names) change("/api/arena/undo", () => say(text("undone")));
  } else if (name === "names") {
    const { last } = page;
    if (last && last.said !== "skip" && !last.names) change("/api/arena/names", () => say($("last-vote").textContent));
  } else if (page.asked) {
    page.busy = true;
    unsent.set({ voter: page.voter, body: { asked: page.asked.key, said: name, seconds: page.clock.seconds() } });
    send();
  }
}

let retry = 0;

// Sends the vote that is kept. It stays until the server confirms it.
async function send() {
  clearTimeout(retry);
  const kept = unsentOfMine();
  if (!kept) return refresh();
  page.busy = true;
  try {
    const state = await ask("/api/arena/votes", kept.body);
    unsent.clear();
    alertOf(null);
    show(state);
    say(text("said", { said: text(kept.body.said) }));
  } catch (refused) {
    if (!("status" in refused)) throw refused;
    if (refused.status === 422) {
      unsent.clear(); // it can never be taken
      await refresh();
      return alertOf(refused);
    }
    alertOf(refused, true);
    if (refused.status === 0) retry = setTimeout(send, RETRY);
  }
}

// Takes back the last vote, or asks for its names.
async function change(path, done) {
  page.busy = true;
  try {
    const state = await ask(path, { vote: page.last.vote });
    alertOf(null);
    show(state);
    done();
  } catch (refused) {
    failed(refused);
    page.busy = false;
  }
}

async function refresh() {
  page.busy = true;
  try {
    const state = await ask("/api/arena/desk");
    page.voter = state.voter;
    alertOf(null);
    if (unsentOfMine()) return await send();
    show(state);
  } catch (refused) {
    failed(refused);
    if (refused.status === 0) setTimeout(refresh, RETRY);
  }
}

function failed(refused) {
  if (!("status" in refused)) throw refused;
  alertOf(refused);
}

async function enter() {
  try {
    await letIn();
  } catch (refused) {
    return failed(refused);
  }
  await refresh();
}

document.addEventListener("keydown", (event) => {
  const name = actionOf(event);
  if (!name) return;
  event.preventDefault();
  act(name);
});
for (const button of document.querySelectorAll("[data-said]")) {
  button.addEventListener("click", () => act(button.dataset.said));
}
for (const name of ["names", "undo"]) $(name).addEventListener("click", () => act(name));
$("again").addEventListener("click", send);
addEventListener("online", () => unsentOfMine() && send());

enter();
