// What the page shows: two answers or a conversation with two models, the last vote, and the progress.

import { Offsets } from "../common/offsets.js";
import { $, make, stopwatch } from "../common/page.js";
import { Passage } from "../common/passage.js";
import { text } from "../common/texts.js";

const SIDES = ["left", "right"];
const passage = new Passage($("document"));

export const page = {
  voter: "",
  asked: null, // the next pair: {key, turns, document}
  chat: null, // the conversation: {key, turns, writing, failed, most}. Null where there is no free chat
  room: "", // "pairs" or "chat"
  shown: null, // what a vote is on: `asked` or `chat`
  last: null, // the last vote: {vote, said, names}
  busy: true, // something is on its way to the server, so nothing else is done
  clock: null,
};

// Shows what the server wants to be done next.
export function show(state) {
  const turns = page.chat?.turns.length;
  page.voter = state.voter;
  page.asked = state.asked;
  page.chat = state.chat;
  page.last = state.last;
  page.busy = false;
  $("facts").hidden = false;
  $("voter").textContent = state.voter;
  $("rooms").hidden = state.chat === null;
  if (state.chat && state.chat.turns.length > turns) $("message").value = ""; // it was replied to
  showProgress(state.progress);
  showLast(state.last);
  showRoom(page.room || (state.asked || !state.chat ? "pairs" : "chat"));
}

// Shows the pairs or the free chat.
export function showRoom(name) {
  const before = page.shown;
  const moved = name !== page.room;
  page.room = name;
  page.shown = name === "chat" ? page.chat : page.asked;
  for (const button of document.querySelectorAll("[data-room]")) {
    button.setAttribute("aria-pressed", String(button.dataset.room === name));
  }
  $("pair").hidden = !page.shown;
  $("empty").hidden = Boolean(page.shown);
  showForm();
  if (!moved && page.shown?.key === before?.key && before) return; // only what is around it has changed
  page.clock?.stop();
  page.clock = page.shown && stopwatch();
  showDocument(page.shown?.document);
  const rows = (page.shown?.turns ?? []).map((turn) => turnRows(turn, page.shown.document));
  $("turns").replaceChildren(...rows.flat());
  if (!rows.length) return name === "chat" && moved ? $("message").focus() : undefined;
  const last = rows[rows.length - 1][0];
  last.focus({ preventScroll: true });
  if (name === "chat") last.scrollIntoView({ block: "start" });
  else scrollTo(0, 0);
}

export const draft = () => $("message").value;

// The field for messages, and what votes there are.
function showForm() {
  const chat = page.room === "chat" ? page.chat : null;
  const full = chat !== null && chat.turns.length >= chat.most;
  $("writing").hidden = !chat;
  $("votes").hidden = chat !== null && !chat.turns.length;
  for (const button of $("votes").querySelectorAll("button")) button.disabled = Boolean(chat?.writing);
  document.querySelector("[data-said=skip] .long").textContent = text(chat ? "another" : "skip");
  if (!chat) return;
  $("message").hidden = $("send").hidden = full;
  $("message").disabled = $("send").disabled = Boolean(chat.writing);
  if (chat.writing && !draft()) $("message").value = chat.writing; // the page was loaded again
  $("waiting").textContent = waitingText(chat, full);
}

function waitingText(chat, full) {
  if (chat.writing) return text("writing");
  if (chat.failed) return text("no_reply");
  return full ? text("full", { number: chat.most }) : "";
}

// The document of an exact task, with the places of both answers. Null where there is none.
function showDocument(given) {
  $("document").hidden = !given;
  if (!given) return;
  const offsets = new Offsets(given.text);
  const marks = SIDES.flatMap((side) =>
    given[side].map(([start, end]) => ({
      start: offsets.toUnits(start),
      end: offsets.toUnits(end),
      kind: side,
      rank: text(`letter_${side}`),
    })),
  );
  passage.draw(given.text, marks, false);
  passage.reveal();
}

function turnRows(turn, given) {
  const prompt = make("h2", "prompt", make("span", "hidden", `${text("prompt")}: `), turn.prompt);
  prompt.tabIndex = -1;
  const answers = SIDES.map((side) => {
    const heading = make("h3", "", text(`answer_${side}`));
    const empty = turn[side].trim() === "";
    const body = make("div", empty ? "reply none" : "reply", empty ? text(given ? "refused" : "empty_answer") : turn[side]);
    const box = make("section", `answer ${side}`, heading, body);
    if (given && !empty) box.append(make("p", "place", placeText(given[side].length)));
    box.setAttribute("aria-label", text(`answer_${side}`));
    return box;
  });
  return [prompt, make("div", "answers", ...answers)];
}

const placeText = (number) => (number ? text("places", { number }) : text("not_found"));

function showProgress({ votes, skipped, left }) {
  $("progress").hidden = false;
  $("done").max = Math.max(1, votes + skipped + left);
  $("done").value = votes + skipped;
  const shown = [["votes", votes], ["skipped", skipped], ["left_over", left]];
  const rows = shown.filter(([key, number]) => number || key !== "skipped");
  $("figures").replaceChildren(...rows.map(([key, number]) => make("span", "", text(key, { number }))));
}

function showLast(last) {
  $("last").hidden = last === null;
  if (last === null) return;
  const said = last.said === "skip" ? text("last_skip") : text("last", { said: text(last.said) });
  const names = last.names && text("wrote", { left: last.names[0], right: last.names[1] });
  $("last-vote").textContent = names ? `${said} ${names}` : said;
  $("names").hidden = last.said === "skip" || last.names !== null;
  $("undo").hidden = last.names !== null;
}
