"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 20; // examples shown at a time
  const AROUND = 150; // characters kept on either side of a span
  const LONG = 640; // documents of more characters than this are clipped
  const DELAY = 150; // milliseconds from the last key to the search
  const KINDS = { reference: "reference", model: "model’s answer", "reference model": "reference and model’s answer" };
  const REFUSALS = { absent: "the document does not answer", unsure: "unsure: there probably is an answer, but no passage is likely enough", "": "no answer" };
  // A decoder that does not weigh an answer against its absence, or a rule of an earlier version, may give such an answer.
  const BELOW_ABSENCE = "Absence was more likely than this answer. It was given all the same, by a rule or a decoder " +
    "that does not compare the two.";

  const list = document.getElementById("list");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const query = document.getElementById("query");
  const order = document.getElementById("order");
  const buttons = Array.from(document.querySelectorAll("[data-filter]"));
  const state = { filter: "all", matches: [], shown: 0 };

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children); // strings become text, never markup
    return element;
  }

  // Places count code points, as Python does; strings count UTF-16 units.
  const split = new Map();
  function codePoints(at) {
    if (!split.has(at)) split.set(at, Array.from(data.documents[at].text));
    return split.get(at);
  }
  function textAt(at, start, end) {
    return codePoints(at).slice(start, end).join("");
  }

  function percent(share) {
    if (share === null) return "";
    if (share > 0 && share < 0.001) return "< 0.1 %";
    if (share < 1 && share > 0.999) return "> 99.9 %";
    return (100 * share).toFixed(share < 0.0995 || share > 0.99 ? 1 : 0) + " %"; // two digits
  }

  // The parts of a document to show: [start, end] around each span, widened to white space, joined where they meet.
  function windowsOf(points, spans) {
    if (points.length <= LONG) return [[0, points.length]];
    const isSpace = (at) => /\s/.test(points[at]);
    const wanted = spans.length ? spans.map((span) => [span.start - AROUND, span.end + AROUND]) : [[0, 2 * AROUND]];
    const windows = [];
    for (let [start, end] of wanted.sort((a, b) => a[0] - b[0])) {
      start = Math.max(0, start);
      end = Math.min(points.length, end);
      for (let steps = 0; start > 0 && steps < 30 && !isSpace(start - 1); steps++) start--;
      for (let steps = 0; end < points.length && steps < 30 && !isSpace(end); steps++) end++;
      const last = windows[windows.length - 1];
      if (last && start <= last[1] + 40) last[1] = Math.max(last[1], end);
      else windows.push([start, end]);
    }
    return windows;
  }

  // One piece of text, cut wherever a span begins or ends, so that overlaps have a mark of their own.
  function marked(points, spans, start, end) {
    const inside = (at) => at > start && at < end;
    const cuts = new Set([start, end, ...spans.flatMap((span) => [span.start, span.end]).filter(inside)]);
    const sorted = Array.from(cuts).sort((a, b) => a - b);
    const pieces = [];
    for (let i = 0; i + 1 < sorted.length; i++) {
      const text = points.slice(sorted[i], sorted[i + 1]).join("");
      const covering = spans.filter((span) => span.start <= sorted[i] && span.end >= sorted[i + 1]);
      const kinds = ["reference", "model"].filter((kind) => covering.some((span) => span.kind === kind)).join(" ");
      if (kinds) {
        const mark = make("mark", kinds, text);
        mark.title = KINDS[kinds];
        pieces.push(mark);
      } else pieces.push(text);
    }
    return pieces;
  }

  function fillPassage(paragraph, points, spans, windows) {
    paragraph.replaceChildren();
    for (const [index, [start, end]] of windows.entries()) {
      if (start > 0) paragraph.append(make("span", "gap", index ? " […] " : "[…] "));
      paragraph.append(...marked(points, spans, start, end));
    }
    if (windows[windows.length - 1][1] < points.length) paragraph.append(make("span", "gap", " […]"));
  }

  function passage(example) {
    const points = codePoints(example.document);
    const places = [["reference", example.referencePlace], ["model", example.place]];
    const spans = places.filter((entry) => entry[1]).map(([kind, [start, end]]) => ({ kind, start, end }));
    const clipped = windowsOf(points, spans);
    const paragraph = make("p");
    fillPassage(paragraph, points, spans, clipped);
    const box = make("div", "passage", make("h4", "", data.documents[example.document].title || "Document"), paragraph);
    if (clipped.length > 1 || clipped[0][0] > 0 || clipped[0][1] < points.length) {
      const button = make("button", "", "Show the whole document");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      button.addEventListener("click", () => {
        const open = button.getAttribute("aria-expanded") !== "true";
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "Show less" : "Show the whole document";
        fillPassage(paragraph, points, spans, open ? [[0, points.length]] : clipped);
      });
      box.append(button);
    }
    return box;
  }

  function answers(example) {
    const given = make("dd", example.answer ? "" : "none");
    given.append(example.answer ? make("mark", "model", example.answer) : REFUSALS[example.refusal]);
    if (example.answer && !example.place) given.append(make("div", "also", "not in the document"));
    const belowAbsence = example.answer && example.probability !== null && example.noAnswer > example.probability;
    if (belowAbsence) given.append(make("div", "also", BELOW_ABSENCE));
    const reference = make("dd", example.references.length ? "" : "none");
    if (example.references.length) {
      const marked = example.referencePlace ? textAt(example.document, ...example.referencePlace) : example.references[0];
      const rest = example.references.filter((text) => text !== marked);
      reference.append(make("mark", "reference", marked));
      if (rest.length) reference.append(make("div", "also", "or: " + rest.join(" / ")));
    } else reference.append("not in the document");
    const shown = make("dl", "answers", make("dt", "", "Model"), given, make("dt", "", "Reference"), reference);
    if (data.before) {
      const name = data.before.charAt(0).toUpperCase() + data.before.slice(1) + " model";
      shown.append(make("dt", "", name), make("dd", example.before ? "" : "none", example.before || "no answer"));
    }
    const items = example.others.map(([start, end, chance]) => [chance, textAt(example.document, start, end), ""]);
    if (example.noAnswer !== null && example.refusal !== "absent") items.push([example.noAnswer, "not in the document", "none"]);
    if (items.length) {
      const rows = items.sort((a, b) => b[0] - a[0]).map(([chance, text, className]) =>
        make("li", "", make("span", "chance", percent(chance)), make("span", className, text)));
      shown.append(make("dt", "", "Also considered"), make("dd", "", make("ul", "others", ...rows)));
    }
    return shown;
  }

  function verdict(example) {
    const right = example.in.includes("right");
    const line = make("p", "verdict", make("span", right ? "right" : "wrong", right ? "✓ right" : "✗ wrong"));
    if (!right && example.f1 > 0) line.append(make("span", "", "F1 " + (100 * example.f1).toFixed(0) + " %"));
    if (example.probability !== null) line.append(make("span", "", percent(example.probability) + " sure"));
    if (!example.answer) line.append(make("span", "", "refused"));
    if (example.certified) line.append(make("span", "", "certified"));
    if (!example.validJson) line.append(make("span", "", "not valid JSON"));
    return line;
  }

  function show(example) {
    const question = make("h3", "", example.question);
    question.tabIndex = -1;
    return make("li", "", verdict(example), question, make("div", "body", answers(example), passage(example)));
  }

  const lowered = data.documents.map(() => null);
  function holds(example, wanted) {
    if (example.question.toLowerCase().includes(wanted)) return true;
    const at = example.document;
    if (lowered[at] === null) lowered[at] = (data.documents[at].title + "\n" + data.documents[at].text).toLowerCase();
    return lowered[at].includes(wanted);
  }

  function count(number, one, many) {
    return number.toLocaleString("en") + " " + (number === 1 ? one : many);
  }

  function extend() {
    const next = state.matches.slice(state.shown, state.shown + PAGE);
    list.append(...next.map(show));
    state.shown += next.length;
    const left = state.matches.length - state.shown;
    more.hidden = left === 0;
    more.textContent = "Show " + Math.min(PAGE, left) + " more";
    found.textContent = state.matches.length
      ? count(state.matches.length, "question", "questions") + (left ? ", the first " + state.shown.toLocaleString("en") + " shown" : "")
      : "No question fits. Try another word, or show all.";
    return list.children[state.shown - next.length];
  }

  function refresh() {
    const wanted = query.value.trim().toLowerCase();
    const inFilter = (example) => state.filter === "all" || example.in.includes(state.filter);
    state.matches = data.examples.filter((example) => inFilter(example) && (!wanted || holds(example, wanted)));
    if (order.value !== "data") {
      const sign = order.value === "surest" ? -1 : 1;
      const rank = (example) => (example.probability === null ? 2 : sign * example.probability);
      state.matches.sort((a, b) => rank(a) - rank(b));
    }
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.filter === state.filter));
    state.shown = 0;
    list.replaceChildren();
    extend();
  }

  // The address keeps what is shown: #wrong, or #wrong&q=ferry&order=surest.
  function remember() {
    const wanted = new URLSearchParams({ show: state.filter });
    if (query.value.trim()) wanted.set("q", query.value.trim());
    if (order.value !== "data") wanted.set("order", order.value);
    try {
      history.replaceState(null, "", "#" + wanted.toString().slice("show=".length));
    } catch {
      // Some viewers fix the address; the page works without.
    }
  }

  function recall() {
    const wanted = new URLSearchParams("show=" + location.hash.slice(1));
    const filter = wanted.get("show");
    const known = buttons.some((button) => button.dataset.filter === filter);
    if (known) {
      state.filter = filter;
      query.value = wanted.get("q") || "";
      const option = Array.from(order.options).find((one) => one.value === wanted.get("order"));
      order.value = option ? option.value : "data";
    }
    return known;
  }

  function change() {
    refresh();
    remember();
  }

  let waiting = 0;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(change, DELAY);
  });
  order.addEventListener("change", change);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      state.filter = button.dataset.filter;
      change();
    });
  }
  more.addEventListener("click", () => extend().querySelector("h3").focus());
  window.addEventListener("hashchange", () => {
    if (recall()) refresh();
  });

  document.getElementById("browser").hidden = false;
  const asked = recall();
  refresh();
  if (asked) document.getElementById("examples").scrollIntoView();
})();
