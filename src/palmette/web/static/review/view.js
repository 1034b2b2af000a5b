// What the page shows: the question with its document, the model's answer, the span that is edited, and the progress.

import { Spans } from "./span.js";
import { Offsets } from "../common/offsets.js";
import { $, make, stopwatch } from "../common/page.js";
import { Passage } from "../common/passage.js";
import { say } from "../common/room.js";
import { ask } from "../common/server.js";
import { text } from "../common/texts.js";

export const passage = new Passage($("passage"));
const documents = new Map(); // by hash: {text, title, offsets, spans}
export const page = {
  annotator: "",
  asked: null, // the question that is shown
  text: null, // its document
  undoable: null, // the verdict that an undo takes back
  deciding: false, // the question is one on which people disagree
  chosen: null, // the span that is being edited
  active: "end",
  busy: true, // something is on its way to the server, so nothing else is done
  clock: null,
};

const percent = (share) => {
  if (share === null) return text("unknown");
  if (share > 0 && share < 0.01) return text("under", { number: 1 });
  return share < 1 && share > 0.99 ? text("over", { number: 99 }) : text("percent", { number: Math.round(100 * share) });
};
const rounded = (number, digits) => Number(number.toFixed(digits));

// What the server says of a place, in units of the page.
function placed(span, { offsets }) {
  return span && { text: span.text, start: offsets.toUnits(span.start), end: offsets.toUnits(span.end) };
}

async function documentOf(sha256) {
  if (!documents.has(sha256)) {
    const given = await ask("/api/review/documents/" + sha256);
    const offsets = new Offsets(given.text);
    const words = given.words.map((word) => word.map((place) => offsets.toUnits(place)));
    documents.set(sha256, { text: given.text, title: given.title, offsets, spans: new Spans(given.text, words) });
  }
  return documents.get(sha256);
}

// Shows what the server wants to be done next.
export async function show(state) {
  const asked = state.asked;
  page.text = asked && (await documentOf(asked.document));
  page.deciding = state.deciding;
  page.undoable = state.undoable;
  showHead(state);
  page.asked = asked && {
    ...asked,
    suggestion: placed(asked.suggestion, page.text),
    candidates: asked.candidates.map((one) => ({ ...one, ...placed(one, page.text) })),
  };
  page.clock?.stop();
  page.clock = asked && stopwatch();
  page.busy = false;
  $("question").hidden = !asked;
  $("empty").hidden = Boolean(asked);
  $("backward").hidden = asked !== null || page.undoable === null;
  if (asked) {
    showQuestion();
    return;
  }
  $("empty").textContent = text(`empty_${state.empty}`);
  say($("empty").textContent);
}

// Shows what is known beside the question.
export function showHead(state) {
  $("facts").hidden = false;
  $("annotator").textContent = page.annotator;
  $("run").textContent = state.run;
  $("data").textContent = state.data;
  $("conflicts").hidden = state.deciding || state.conflicts === 0;
  $("conflicts").textContent = text("conflicts", { number: state.conflicts });
  $("back").hidden = !state.deciding;
  $("newer").hidden = !state.newer && !state.preparing && !state.failed;
  $("go-on").hidden = !state.newer;
  $("go-on").dataset.run = state.newer ?? "";
  const news = [];
  if (state.failed) news.push(text("failure"));
  if (state.newer) news.push(text("newer", { run: state.newer }));
  if (state.preparing) news.push(text("preparing"));
  $("newer-run").textContent = news.join(" ");
  showProgress(state.progress);
}

function showProgress(progress) {
  $("progress").hidden = false;
  $("done").max = Math.max(1, progress.total);
  $("done").value = progress.judged;
  const { judged, total, per_minute, minutes_left, accept_rate, read, questions } = progress;
  const shown = [text("questions", { judged, number: total })];
  if (per_minute !== null) shown.push(text("rate", { rate: rounded(per_minute, 1) }));
  if (minutes_left !== null) shown.push(duration(minutes_left));
  if (accept_rate !== null) shown.push(text("accepted", { share: percent(accept_rate) }));
  if (read < questions) shown.push(text("answered", { read, total: questions }));
  const strategies = Object.entries(progress.strategies).map(([name, number]) => text(`chosen_${name}`, { number }));
  const rows = shown.map((line) => make("span", "", line));
  if (strategies.length) rows.push(make("span", "why", text("chosen", { list: strategies.join(", ") })));
  $("figures").replaceChildren(...rows);
}

function duration(minutes) {
  if (minutes < 1) return text("minute_left");
  const hours = minutes >= 90;
  return text(hours ? "hours_left" : "minutes_left", { number: Math.round(hours ? minutes / 60 : minutes) });
}

// Why a question is asked.
function whyText({ why, blind }) {
  const known = text(`why_${why}`);
  return blind && why !== "conflict" ? `${known} ${text("why_blind")}` : known;
}

function showQuestion() {
  const asked = page.asked;
  $("asked").textContent = asked.question;
  $("why").textContent = whyText(asked);
  $("title").textContent = page.text.title;
  $("title").hidden = !page.text.title;
  $("answer").textContent = asked.suggestion ? asked.suggestion.text : text("absent");
  $("answer").className = asked.suggestion ? "" : "none";
  const odds = [[text("probability"), asked.probability]];
  if (asked.suggestion) odds.push([text("absent_odds"), asked.no_answer_probability]);
  const known = odds.filter(([, share]) => share !== null);
  $("odds").replaceChildren(...known.flatMap(([name, share]) => [make("dt", "", name), make("dd", "", percent(share))]));
  const rows = asked.candidates.map((one, index) => {
    const beside = one.who ?? percent(one.probability);
    const chance = make("span", "chance", beside);
    const button = make("button", "", make("kbd", "", String(index + 1)), make("span", "text", one.text), chance);
    button.type = "button";
    button.setAttribute("aria-label", text("answer", { rank: index + 1, text: one.text, beside }));
    button.dataset.rank = index + 1;
    return make("li", "", button);
  });
  $("candidates").replaceChildren(...rows);
  $("others-heading").textContent = text(page.deciding ? "people_said" : "likeliest");
  $("said-by-others").replaceChildren(...asked.said.map((one) => make("li", "", saidText(one))));
  for (const name of ["accept", "reject"]) verdictButton(name).disabled = asked.blind;
  edit(null);
  passage.reveal();
  $("asked").focus({ preventScroll: true });
  scrollTo(0, 0);
}

// What somebody said who gave no answer, and what they found wrong.
function saidText({ who, wrong }) {
  if (wrong === null) return text("said_absent", { who });
  return text("said_wrong", { who, text: wrong || text("absent") });
}

const verdictButton = (name) => document.querySelector(`[data-verdict="${name}"]`);

// Begins or goes on with editing a span. Null ends it.
export function edit(span) {
  const asked = page.asked;
  page.chosen = span;
  $("edit").hidden = span === null;
  $("verdicts").hidden = span !== null;
  $("backward").hidden = span !== null || page.undoable === null;
  $("suggestion").hidden = span !== null || asked.blind;
  $("others").hidden = span !== null || !(asked.candidates.length || asked.said.length);
  $("passage").className = span ? "editing" : "";
  const marks = asked.candidates.map((one, index) => ({ ...one, kind: "candidate", rank: span ? 0 : index + 1 }));
  if (asked.suggestion) marks.push({ ...asked.suggestion, kind: "model" });
  if (span) marks.push({ ...span, kind: "chosen" });
  passage.draw(page.text.text, marks, span !== null);
  if (!span) return;
  $("chosen").textContent = page.text.text.slice(span.start, span.end);
  $("fault").textContent = faultOf(span);
  $("moves").textContent = text(`moves_${page.active}`);
  for (const side of document.querySelectorAll("fieldset[data-end], .grip")) {
    side.classList.toggle("active", side.dataset.end === page.active);
  }
}

function faultOf(span) {
  const fault = page.text.spans.fault(span.start, span.end, page.asked.max_words);
  return fault ? `${text(...fault)} ${text("fault_learn")}` : "";
}

