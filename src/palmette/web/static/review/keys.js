// Keys by their place on the keyboard, so any layout will do: the key of A is the same key in Russian, where it says Ф.

const VERDICTS = {
  KeyA: "accept",
  KeyX: "reject",
  KeyN: "no_answer",
  KeyE: "edit",
  Space: "skip",
  Backspace: "undo",
};
const EDITING = {
  ArrowUp: "start",
  ArrowDown: "end",
  Enter: "save",
  NumpadEnter: "save",
  Escape: "cancel",
};
const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
const OWN_KEYS = "a, button, input, select, summary, textarea"; // what uses Space and Enter itself
const TYPING = "input, select, textarea";
const SCROLLED = "#passage:focus-visible"; // reached by Tab, where the space bar scrolls

// What a key asks for: {name, ...}. Null for all other keys, for a key that is held down, and while somebody types.
export function actionOf(event, editing) {
  if (event.repeat && !(editing && event.code in STEPS)) return null;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return null;
  const element = event.target instanceof Element ? event.target : null;
  if (element?.closest(TYPING)) return null;
  if (event.code === "Space" && element?.matches(SCROLLED)) return null;
  if ((event.code === "Space" || event.code.endsWith("Enter")) && element?.closest(OWN_KEYS)) return null;
  if (editing && event.code in STEPS) {
    return { name: "move", step: STEPS[event.code], unit: event.shiftKey ? "character" : "word" };
  }
  if (event.shiftKey) return null;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  if (digit) return { name: "candidate", rank: Number(digit[1]) };
  const name = (editing ? EDITING : VERDICTS)[event.code];
  return name ? { name } : null;
}
