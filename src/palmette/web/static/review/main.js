// The review page: what keys, buttons and fingers do to it, and what it says to the server.

import { actionOf } from "./keys.js";
import { watchPointer } from "./pointer.js";
import { $ } from "../common/page.js";
import { Room, say } from "../common/room.js";
import { ask } from "../common/server.js";
import { text } from "../common/texts.js";
import { edit, page, passage, show, showHead } from "./view.js";

const POLL = 700; // milliseconds between two looks at whether there is a question
const IDLE = 5000; // milliseconds between two looks where nothing is asked
const DESK = "/api/review/desk";
const CONFLICT = "/api/review/conflict";

const room = new Room({
  page,
  who: "annotator",
  desk: DESK,
  unsent: "palmette-unsent",
  show,
  said: (kept) => page.asked && say(text(`said_${kept.kind}`)),
  then: follow,
});

function beginEdit() {
  page.active = "end";
  const { asked } = page;
  const first = page.text.spans.words[0];
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
      if (page.deciding) room.look(CONFLICT + "?after=" + encodeURIComponent(asked.key));
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
  const { text: whole, offsets } = page.text;
  const sent = span && {
    text: whole.slice(span.start, span.end),
    start: offsets.toPoints(span.start),
    end: offsets.toPoints(span.end),
  };
  const said = { span: sent, seconds: page.clock.seconds() };
  if (page.deciding) room.keep("/api/review/decisions", { question: page.asked.key, ...said }, { kind });
  else room.keep("/api/review/verdicts", { asked: page.asked.key, kind, ...said }, { kind });
}

function undo() {
  if (page.undoable === null) return;
  room.change("/api/review/undo", { verdict: page.undoable }, () => say(text("undone")));
}

let watching = 0;

// Looks again where something is coming: the first answer, or a newer run, for which nobody waits.
function follow(state) {
  clearTimeout(watching);
  if (state.waiting) watching = setTimeout(() => room.look(), POLL);
  else if (state.preparing || !state.asked) watching = setTimeout(watch, state.preparing ? POLL : IDLE);
}

async function watch() {
  try {
    const state = await ask(DESK);
    if (state.asked && !page.asked && !page.deciding) return await room.look();
    showHead({ ...state, deciding: page.deciding });
    follow(state);
  } catch (refused) {
    room.failed(refused);
  }
}

async function goOn() {
  try {
    const state = await ask("/api/review/run", { run: $("go-on").dataset.run });
    showHead({ ...state, deciding: page.deciding });
    follow(state);
  } catch (refused) {
    room.failed(refused);
  }
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
$("conflicts").addEventListener("click", () => page.busy || room.look(CONFLICT));
$("back").addEventListener("click", () => page.busy || room.look());
$("go-on").addEventListener("click", goOn);

watchPointer(passage, { ready: () => !page.busy && page.asked, spans: () => page.text.spans, chosen: () => page.chosen, take });

room.enter();
