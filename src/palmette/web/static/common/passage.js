// The text of a document on the page: what is marked in it, and which place of it somebody points at.

import { make } from "./page.js";

export class Passage {
  constructor(container) {
    this.container = container;
    this.text = "";
  }

  // marks: {start, end, kind, rank}. Where they overlap, a piece of text has the kinds of all of them.
  // grips: whether the ends of the mark of the kind "chosen" can be dragged.
  draw(text, marks, grips) {
    this.text = text;
    const cuts = new Set([0, text.length]);
    for (const mark of marks) cuts.add(mark.start).add(mark.end);
    const places = Array.from(cuts).sort((a, b) => a - b);
    const pieces = [];
    places.slice(0, -1).forEach((start, index) => {
      const end = places[index + 1];
      const within = marks.filter((mark) => mark.start <= start && mark.end >= end);
      const chosen = within.find((mark) => mark.kind === "chosen");
      if (grips && chosen?.start === start) pieces.push(grip("start"));
      pieces.push(within.length ? this.#marked(text.slice(start, end), within, start) : text.slice(start, end));
      if (grips && chosen?.end === end) pieces.push(grip("end"));
    });
    this.container.replaceChildren(...pieces);
  }

  #marked(text, marks, start) {
    const element = make("mark", Array.from(new Set(marks.map((mark) => mark.kind))).join(" "), text);
    const ranks = marks.filter((mark) => mark.start === start && mark.rank).map((mark) => mark.rank);
    if (ranks.length) element.dataset.rank = ranks.join(" ");
    return element;
  }

  // The place of a point of the page's tree, in units of the text. Null outside of the text.
  placeOf(node, offset) {
    if (!node || !this.container.contains(node)) return null;
    const range = document.createRange();
    range.setStart(this.container, 0);
    range.setEnd(node, offset);
    return range.toString().length;
  }

  // The place between two characters that is nearest to a point of the screen. Null outside of the text.
  placeAt(x, y) {
    const [node, offset] = caretAt(x, y);
    return this.placeOf(node, offset);
  }

  // The place of the character at a point of the screen, which may be the one before the nearest place.
  characterAt(x, y) {
    const [node, offset] = caretAt(x, y);
    const place = this.placeOf(node, offset);
    if (place === null || node.nodeType !== Node.TEXT_NODE || offset === 0) return place;
    const range = document.createRange();
    range.setStart(node, offset - 1);
    range.setEnd(node, offset);
    const within = ({ left, right, top, bottom }) => left <= x && x < right && top <= y && y < bottom;
    return Array.from(range.getClientRects()).some(within) ? place - 1 : place;
  }

  // What is selected in the text. Null if that is nothing.
  selected() {
    const selection = document.getSelection();
    if (!selection || selection.isCollapsed || !selection.rangeCount) return null;
    const range = selection.getRangeAt(0);
    if (!range.intersectsNode(this.container)) return null;
    const start = this.placeOf(range.startContainer, range.startOffset) ?? 0;
    const end = this.placeOf(range.endContainer, range.endOffset) ?? this.text.length;
    return start < end ? { start, end } : null;
  }

  // Scrolls the text, and nothing else, until a mark is seen.
  reveal() {
    const mark = this.container.querySelector("mark.chosen, mark.model") ?? this.container.querySelector("mark");
    if (!mark) {
      this.container.scrollTop = 0;
      return;
    }
    const inner = mark.getBoundingClientRect();
    const outer = this.container.getBoundingClientRect();
    if (inner.top < outer.top || inner.bottom > outer.bottom) {
      this.container.scrollTop += inner.top - outer.top - outer.height / 3;
    }
  }
}

// [node, offset] of the place that is nearest to a point of the screen.
function caretAt(x, y) {
  if (document.caretPositionFromPoint) {
    const found = document.caretPositionFromPoint(x, y);
    return [found?.offsetNode ?? null, found?.offset ?? 0];
  }
  const range = document.caretRangeFromPoint?.(x, y); // Safari
  return [range?.startContainer ?? null, range?.startOffset ?? 0];
}

function grip(end) {
  const element = make("span", `grip ${end}`);
  element.dataset.end = end;
  element.setAttribute("aria-hidden", "true"); // the buttons of the edit do the same, with labels
  return element;
}
