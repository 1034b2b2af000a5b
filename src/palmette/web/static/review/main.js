// The review page: what keys, buttons and fingers do to it, and what it says to the server.

import { actionOf } from "./keys.js";
import { watchPointer } from "./pointer.js";
import { $ } from "../common/page.js";
import { ask, letIn } from "../common/server.js";
import { alertOf, edit, page, passage, say, show, showHead, unsent, unsentOfMine } from "./view.js";

const POLL = 700; // milliseconds between two looks at whether there is a question
const RETRY = 3000; // milliseconds until an unsent verdict is tried again
const IDLE = 5000; // milliseconds between two looks where nothing is asked
const DESK = "/api/review/desk";
const CONFLICT = "/api/review/conflict";
const KEPT = "Your verdict is kept in this browser until it can be sent.";
const SAID = { accept: "Accepted.", reject: "Rejected.", no_answer: "Not in the document.", edit: "Saved.", skip: "Skipped." };

function beginEdit() {
  page.active = "end";
  const { asked, text } = page;
  const first = text.spans.words[0];
  const span = asked.suggestion ?? asked.candidates[0] ?? (first && { start: first[0], end: first[first.length - 1] });
  if (!span) return;
  edit({ start: span.start, end: span.end });
  passage.reveal();
}

function move(end, step, unit) {
  page.active = end;
  const spans = page.text.spans;
  edit(unit === "word" ? spans.moveWord(page.chosen, end, step) : spans.moveCharacter(page.chosen, end, step));
  passage.reveal();
}

// A span that was marked in the text, by mouse or finger, and the end of it that moved.
function take(span, end) {
  if (end) page.active = end;
  edit(span);
}

function act(action) {
  if (page.busy) return;
  if (action.name === "undo") undo();
  if (!page.asked) return;
  const asked = page.asked;
  switch (action.name) {
    case "accept":
    case "reject":
      if (!asked.blind) judge(action.name, action.name === "accept" ? asked.suggestion : null);
      break;
    case "skip":
      if (page.deciding) look(CONFLICT + "?after=" + encodeURIComponent(asked.key));
      else judge("skip", null);
      break;
    case "no_answer":
      judge("no_answer", null);
      break;
    case "candidate": {
      const one = asked.candidates[action.rank - 1];
      if (one && page.chosen) edit({ start: one.start, end: one.end });
      else if (one) judge("edit", one);
      break;
    }
    case "edit":
      beginEdit();
      break;
    case "move":
      move(page.active, action.step, action.unit);
      break;
    case "start":
    case "end":
      page.active = action.name;
      edit(page.chosen);
      break;
    case "save":
      judge("edit", page.chosen);
      break;
    case "cancel":
      edit(null);
      $("asked").focus({ preventScroll: true });
  }
}

function judge(kind, span) {
  const { text, offsets } = page.text;
  page.busy = true;
  const sent = span && {
    text: text.slice(span.start, span.end),
    start: offsets.toPoints(span.start),
    end: offsets.toPoints(span.end),
  };
  const said = { span: sent, seconds: page.clock.seconds() };
  unsent.set({
    annotator: page.annotator,
    kind,
    path: page.deciding ? "/api/review/decisions" : "/api/review/verdicts",
    body: page.deciding ? { question: page.asked.key, ...said } : { asked: page.asked.key, kind, ...said },
  });
  send();
}

let retry = 0;

// Sends the verdict that is kept. It stays until the server confirms it.
async function send() {
  clearTimeout(retry);
  const kept = unsentOfMine();
  if (!kept) return refresh();
  page.busy = true;
  try {
    const state = await ask(kept.path, kept.body);
    unsent.clear();
    alertOf(null);
    say(SAID[kept.kind]);
    await show(state);
    follow(state);
  } catch (refused) {
    if (!("status" in refused)) throw refused;
    if (refused.status === 409 || refused.status === 422) {
      unsent.clear(); // it can never be taken
      await refresh();
      alertOf(refused);
      return;
    }
    if (unsentOfMine()) refused.wayOut = `${refused.wayOut} ${KEPT}`.trim();
    alertOf(refused);
    if (refused.status === 0) retry = setTimeout(send, RETRY);
  }
}

async function undo() {
  if (page.undoable === null) return;
  page.busy = true;
  try {
    const state = await ask("/api/review/undo", { verdict: page.undoable });
    alertOf(null);
    await show(state);
    say("Undone.");
  } catch (refused) {
    failed(refused);
    page.busy = false;
  }
}

// Asks what is next, and shows it: another question, or one on which people disagree.
async function look(path) {
  page.busy = true;
  try {
    const state = await ask(path);
    page.annotator = state.annotator;
    alertOf(null);
    if (unsentOfMine()) return await send();
    await show(state);
    follow(state);
  } catch (refused) {
    failed(refused);
    if (refused.status === 0) setTimeout(look, RETRY, path);
  }
}

const refresh = () => look(DESK);

let watching = 0;

// Looks again where something is coming: the first answer, or a newer run, for which nobody waits.
function follow(state) {
  clearTimeout(watching);
  if (state.waiting) watching = setTimeout(refresh, POLL);
  else if (state.preparing || !state.asked) watching = setTimeout(watch, state.preparing ? POLL : IDLE);
}

async function watch() {
  try {
    const state = await ask(DESK);
    if (state.asked && !page.asked && !page.deciding) return await look(DESK);
    showHead({ ...state, deciding: page.deciding });
    follow(state);
  } catch (refused) {
    failed(refused);
  }
}

async function goOn() {
  try {
    const state = await ask("/api/review/run", { run: $("go-on").dataset.run });
    showHead({ ...state, deciding: page.deciding });
    follow(state);
  } catch (refused) {
    failed(refused);
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
  const action = actionOf(event, page.chosen !== null);
  if (!action) return;
  event.preventDefault();
  act(action);
});
for (const button of document.querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", () => act({ name: button.dataset.verdict }));
}
for (const button of document.querySelectorAll("[data-move]")) {
  const end = button.closest("fieldset").dataset.end;
  button.addEventListener("click", () => move(end, Number(button.dataset.move), button.dataset.unit));
}
$("candidates").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) act({ name: "candidate", rank: Number(button.dataset.rank) });
});
$("save").addEventListener("click", () => act({ name: "save" }));
$("cancel").addEventListener("click", () => act({ name: "cancel" }));
$("undo").addEventListener("click", () => act({ name: "undo" }));
$("conflicts").addEventListener("click", () => page.busy || look(CONFLICT));
$("back").addEventListener("click", () => page.busy || refresh());
$("go-on").addEventListener("click", goOn);
$("again").addEventListener("click", send);
addEventListener("online", () => unsentOfMine() && send());

watchPointer(passage, { ready: () => !page.busy && page.asked, spans: () => page.text.spans, chosen: () => page.chosen, take });

enter();
