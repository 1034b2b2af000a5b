// Spans that are marked with the mouse or with a finger: by selecting text, by dragging an end, or by taking in a word.

const STILL = 5; // pixels that a hand moves while it clicks
const SETTLED = 500; // milliseconds in which a selection by finger does not change any more

// ready: whether there is a question. spans: which spans are allowed. chosen: the span that is edited, or null.
// take(span, end): called with each span that was marked, and with the end that was dragged, if one was.
export function watchPointer(passage, { ready, spans, chosen, take }) {
  const text = passage.container;
  let dragged = "";
  let pressed = null; // where the pointer went down
  let touching = false;
  let settling = 0;

  function takeSelection() {
    const marked = ready() ? passage.selected() : null;
    const snapped = marked && spans().snap(marked.start, marked.end);
    if (!snapped) return;
    document.getSelection().removeAllRanges();
    take(snapped);
  }

  // The text is drawn again with each step, so the container holds on to the pointer, and not the grip.
  text.addEventListener("pointerdown", (event) => {
    dragged = event.target.closest(".grip")?.dataset.end ?? "";
    pressed = event;
    if (!dragged) return;
    event.preventDefault();
    text.setPointerCapture(event.pointerId);
  });
  text.addEventListener("pointermove", (event) => {
    const span = dragged && chosen();
    const place = span ? passage.placeAt(event.clientX, event.clientY) : null;
    if (place === null) return;
    const { start, end } = span;
    if (dragged === "start" && place < end) take(spans().snap(place, end) ?? span, dragged);
    if (dragged === "end" && place > start) take(spans().snap(start, place) ?? span, dragged);
  });
  addEventListener("pointercancel", () => (dragged = ""));
  addEventListener("pointerdown", (event) => (touching = event.pointerType !== "mouse"), true);
  addEventListener("pointerup", (event) => {
    if (!dragged && event.pointerType === "mouse") takeSelection();
    dragged = "";
  });
  // A finger selects by holding, and then moves the ends of the selection.
  document.addEventListener("selectionchange", () => {
    clearTimeout(settling);
    if (touching) settling = setTimeout(takeSelection, SETTLED);
  });
  // Outside of the span it grows to the word, inside the nearer end moves to it.
  text.addEventListener("click", (event) => {
    const span = chosen();
    const still = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < STILL;
    if (!span || !ready() || !still || event.detail > 1) return;
    const place = passage.characterAt(event.clientX, event.clientY);
    const word = place === null ? null : spans().snap(place, place + 1);
    if (!word) return;
    const { start, end } = span;
    if (word.start < start) take({ start: word.start, end }, "start");
    else if (word.end > end) take({ start, end: word.end }, "end");
    else if (place - start < end - place) take({ start: word.start, end }, "start");
    else take({ start, end: word.end }, "end");
  });
}
