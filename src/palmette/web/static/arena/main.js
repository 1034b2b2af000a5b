// The page of the arena: what keys and buttons do to it, and what it says to the server.

import { actionOf } from "./keys.js";
import { draft, page, show, showRoom } from "./view.js";
import { $ } from "../common/page.js";
import { Room, say } from "../common/room.js";
import { text } from "../common/texts.js";

const POLL = 700; // milliseconds between two looks at whether both replies are there

const room = new Room({
  page,
  who: "voter",
  desk: "/api/arena/desk",
  unsent: "palmette-unsent-vote",
  show,
  said: (kept) => say(text("said", { said: text(kept.body.said) })),
  then: follow,
});

function act(name) {
  if (page.busy) return;
  const { last, shown } = page;
  if (name === "undo") {
    if (last && !last.names) room.change("/api/arena/undo", { vote: last.vote }, () => say(text("undone")));
  } else if (name === "names") {
    const open = last && last.said !== "skip" && !last.names;
    if (open) room.change("/api/arena/names", { vote: last.vote }, () => say($("last-vote").textContent));
  } else if (shown?.key && !shown.writing) {
    room.keep("/api/arena/votes", { asked: shown.key, said: name, seconds: page.clock.seconds() });
  }
}

function send() {
  const written = draft();
  if (page.busy || !page.chat || page.chat.writing || !written.trim()) return;
  room.change("/api/arena/messages", { chat: page.chat.key, text: written }, () => say(text("writing")));
}

let watching = 0;

// Looks again while models write. A vote or a message that is on its way comes first, and its answer shows what is next.
function follow(state) {
  clearTimeout(watching);
  if (state.chat?.writing) watching = setTimeout(() => (page.busy ? follow(state) : room.look()), POLL);
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
for (const button of document.querySelectorAll("[data-room]")) {
  button.addEventListener("click", () => page.busy || showRoom(button.dataset.room));
}
for (const name of ["names", "undo"]) $(name).addEventListener("click", () => act(name));
$("writing").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) send();
});

room.enter();
