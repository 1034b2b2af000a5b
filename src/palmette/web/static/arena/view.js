// What the page shows: two answers, the last vote, and the progress.

import { $, make, stopwatch } from "../common/page.js";
import { Unsent } from "../common/server.js";
import { translator } from "../common/texts.js";

export const unsent = new Unsent("palmette-unsent-vote");
export const text = translator(JSON.parse(document.body.dataset.texts), document.documentElement.lang);
export const page = {
  voter: "",
  asked: null, // the pair that is shown: {key, turns}
  last: null, // the last vote: {vote, said, names}
  busy: true, // something is on its way to the server, so nothing else is done
  clock: null,
};
const PROBLEMS = [0, 401, 403, 422, 507];

export function unsentOfMine() {
  const kept = unsent.get();
  return kept && kept.voter === page.voter ? kept : null;
}

// Null takes the message away. `kept`: whether a vote waits until it can be sent.
export function alertOf(refused, kept = false) {
  $("alert").hidden = refused === null;
  if (refused === null) return;
  const problem = text(PROBLEMS.includes(refused.status) ? `problem_${refused.status}` : "problem_other");
  $("problem").textContent = kept ? `${problem} ${text("kept")}` : problem;
  $("again").hidden = !kept;
}

export function say(what) {
  $("said").textContent = what;
}

// Shows what the server wants to be done next.
export function show(state) {
  const before = page.asked?.key;
  page.voter = state.voter;
  page.asked = state.asked;
  page.last = state.last;
  page.busy = false;
  $("facts").hidden = false;
  $("voter").textContent = state.voter;
  $("pair").hidden = !state.asked;
  $("empty").hidden = Boolean(state.asked);
  showProgress(state.progress);
  showLast(state.last);
  if (state.asked?.key === before && before !== undefined) return; // only what is around it has changed
  page.clock?.stop();
  page.clock = state.asked && stopwatch();
  $("turns").replaceChildren(...(state.asked?.turns ?? []).flatMap(turnRows));
  if (!state.asked) return;
  $("turns").firstElementChild.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function turnRows(turn) {
  const prompt = make("h2", "prompt", make("span", "hidden", `${text("prompt")}: `), turn.prompt);
  prompt.tabIndex = -1;
  const answers = ["left", "right"].map((side) => {
    const heading = make("h3", "", text(`answer_${side}`));
    const empty = turn[side].trim() === "";
    const body = make("div", empty ? "reply none" : "reply", empty ? text("empty_answer") : turn[side]);
    const box = make("section", `answer ${side}`, heading, body);
    box.setAttribute("aria-label", text(`answer_${side}`));
    return box;
  });
  return [prompt, make("div", "answers", ...answers)];
}

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
