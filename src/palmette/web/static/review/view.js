// What the page shows: the question with its document, the model's answer, the span that is edited, and the progress.

import { Offsets } from "./offsets.js";
import { Passage } from "./passage.js";
import { Spans } from "./span.js";
import { $, make, stopwatch } from "../common/page.js";
import { Unsent, ask } from "../common/server.js";

export const unsent = new Unsent("palmette-unsent");
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
  if (share === null) return "unknown";
  if (share > 0 && share < 0.01) return "under 1 %";
  return share < 1 && share > 0.99 ? "over 99 %" : Math.round(100 * share) + " %";
};
const count = (number, one, many) => number.toLocaleString("en") + " " + (number === 1 ? one : many);

export function alertOf(refused) {
  $("alert").hidden = refused === null;
  if (refused === null) return;
  $("problem").textContent = refused.message.charAt(0).toUpperCase() + refused.message.slice(1).replace(/\.?$/, ".");
  $("way-out").textContent = refused.wayOut;
  $("again").hidden = unsentOfMine() === null;
}

export function unsentOfMine() {
  const kept = unsent.get();
  return kept && kept.annotator === page.annotator ? kept : null;
}

export function say(text) {
  $("said").textContent = text;
}

// What the server says of a place, in units of the page.
function placed(span, text) {
  return span && { text: span.text, start: text.offsets.toUnits(span.start), end: text.offsets.toUnits(span.end) };
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
  $("empty").textContent = state.empty;
  say($("empty").textContent);
}

// Shows what is known beside the question.
export function showHead(state) {
  $("facts").hidden = false;
  $("annotator").textContent = page.annotator;
  $("run").textContent = state.run;
  $("data").textContent = state.data;
  $("conflicts").hidden = state.deciding || state.conflicts === 0;
  $("conflicts").textContent = `Decide ${count(state.conflicts, "disagreement", "disagreements")}`;
  $("back").hidden = !state.deciding;
  $("newer").hidden = !state.newer && !state.preparing && !state.failure;
  $("go-on").hidden = !state.newer;
  $("go-on").dataset.run = state.newer ?? "";
  if (state.newer) $("newer-run").textContent = `A newer run is ready: ${state.newer}.`;
  else if (state.preparing) $("newer-run").textContent = "The newer run is being loaded. Go on meanwhile.";
  else if (state.failure) $("newer-run").textContent = `The newer run cannot be reviewed: ${state.failure}`;
  showProgress(state.progress);
}

function showProgress(progress) {
  $("progress").hidden = false;
  $("done").max = Math.max(1, progress.total);
  $("done").value = progress.judged;
  const shown = [`${progress.judged} of ${count(progress.total, "question", "questions")}`];
  if (progress.per_minute !== null) shown.push(`${progress.per_minute.toFixed(1)} a minute`);
  if (progress.minutes_left !== null) shown.push(`about ${duration(progress.minutes_left)} left`);
  if (progress.accept_rate !== null) shown.push(`${percent(progress.accept_rate)} of the answers accepted`);
  if (progress.read < progress.questions) shown.push(`the model has answered ${progress.read} of ${progress.questions}`);
  const strategies = Object.entries(progress.strategies).map(([name, number]) => `${number} ${name}`);
  const rows = shown.map((text) => make("span", "", text));
  if (strategies.length) rows.push(make("span", "why", "chosen: " + strategies.join(", ")));
  $("figures").replaceChildren(...rows);
}

function duration(minutes) {
  if (minutes < 1) return "a minute";
  return minutes < 90 ? count(Math.round(minutes), "minute", "minutes") : count(Math.round(minutes / 60), "hour", "hours");
}

function showQuestion() {
  const asked = page.asked;
  $("asked").textContent = asked.question;
  $("why").textContent = asked.why;
  $("title").textContent = page.text.title;
  $("title").hidden = !page.text.title;
  $("answer").textContent = asked.suggestion ? asked.suggestion.text : "not in the document";
  $("answer").className = asked.suggestion ? "" : "none";
  const odds = [["Probability", asked.probability]];
  if (asked.suggestion) odds.push(["Not in the document", asked.no_answer_probability]);
  const known = odds.filter(([, share]) => share !== null);
  $("odds").replaceChildren(...known.flatMap(([name, share]) => [make("dt", "", name), make("dd", "", percent(share))]));
  const rows = asked.candidates.map((one, index) => {
    const beside = one.who ?? percent(one.probability);
    const chance = make("span", "chance", beside);
    const button = make("button", "", make("kbd", "", String(index + 1)), make("span", "text", one.text), chance);
    button.type = "button";
    button.setAttribute("aria-label", `Answer ${index + 1}: ${one.text}, ${beside}`);
    button.dataset.rank = index + 1;
    return make("li", "", button);
  });
  $("candidates").replaceChildren(...rows);
  $("others-heading").textContent = page.deciding ? "What people said" : "Likeliest answers";
  $("said-by-others").replaceChildren(...asked.said.map((text) => make("li", "", text)));
  for (const name of ["accept", "reject"]) verdictButton(name).disabled = asked.blind;
  edit(null);
  passage.reveal();
  $("asked").focus({ preventScroll: true });
  scrollTo(0, 0);
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
  $("active-end").textContent = page.active;
  for (const side of document.querySelectorAll("fieldset[data-end], .grip")) {
    side.classList.toggle("active", side.dataset.end === page.active);
  }
}

function faultOf(span) {
  const fault = page.text.spans.fault(span.start, span.end, page.asked.max_words);
  return fault && fault + " The model cannot learn to give it.";
}

