// Which spans of a document are allowed, and how the ends of one move. All places are UTF-16 units.

import { countBelow } from "../common/offsets.js";

const NEAR = 64; // units that certainly hold a whole character, as people see characters

// The length of the first or of the last character of a text, with its marks.
function characterLength(text, last) {
  if (!text) return 0;
  if (typeof Intl.Segmenter === "function") {
    const parts = Array.from(new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text));
    return parts[last ? parts.length - 1 : 0].segment.length;
  }
  const points = Array.from(text);
  return points[last ? points.length - 1 : 0].length;
}

export class Spans {
  // words: for each word its start and the ends that spans may have in it, the word's own end last.
  constructor(text, words) {
    this.text = text;
    this.words = words;
    this.starts = words.map((word) => word[0]);
    this.lasts = words.map((word) => word[word.length - 1]);
    this.ends = words.flatMap((word) => word.slice(1));
  }

  // The allowed span that covers what was marked. Null where that touches no word.
  snap(start, end) {
    const first = countBelow(this.lasts, start + 1);
    const after = countBelow(this.starts, Math.max(end, start + 1));
    if (first >= after) return null;
    const wanted = Math.max(end, this.starts[after - 1] + 1);
    const last = this.words[after - 1].slice(1).find((one) => one >= wanted);
    return { start: this.starts[first], end: last ?? this.lasts[after - 1] };
  }

  // Why the model could not give a span as an answer: the key of a text with its values. Null if it could.
  fault(start, end, maxWords) {
    const first = countBelow(this.starts, start);
    if (this.starts[first] !== start) return ["fault_start"];
    if (this.ends[countBelow(this.ends, end)] !== end) return ["fault_end"];
    const number = countBelow(this.starts, end) - first;
    return number > maxWords ? ["fault_long", { number, most: maxWords }] : null;
  }

  // The span with one end moved by a word: back for -1, on for 1. The same span where nothing is left that way.
  moveWord(span, end, step) {
    const list = end === "start" ? this.starts : this.ends;
    const place = span[end];
    const index = step > 0 ? countBelow(list, place + 1) : countBelow(list, place) - 1;
    return this.#within({ ...span, [end]: list[index] ?? place }, span);
  }

  moveCharacter(span, end, step) {
    const place = span[end];
    const by =
      step > 0
        ? characterLength(this.text.slice(place, place + NEAR), false)
        : -characterLength(this.text.slice(Math.max(0, place - NEAR), place), true);
    return this.#within({ ...span, [end]: place + by }, span);
  }

  #within(moved, span) {
    return this.text.slice(moved.start, moved.end).trim() && moved.start < moved.end ? moved : span;
  }
}
