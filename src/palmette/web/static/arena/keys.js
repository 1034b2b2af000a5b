// Keys by their place on the keyboard, so any layout will do: the key of A is the same key in Russian, where it says Ф.

const KEYS = {
  KeyA: "left",
  ArrowLeft: "left",
  Digit1: "left",
  KeyB: "right",
  ArrowRight: "right",
  Digit2: "right",
  KeyT: "tie",
  Digit3: "tie",
  KeyX: "both bad",
  Digit4: "both bad",
  Space: "skip",
  Backspace: "undo",
  KeyN: "names",
};
const OWN_KEYS = "a, button, summary"; // what uses the space bar itself
const TYPING = "input, select, textarea";
const SCROLLED = "#document:focus-visible"; // reached by Tab, where the space bar scrolls

// What a key asks for. Null for all other keys, for a key that is held down, and while somebody types.
export function actionOf(event) {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || event.isComposing) return null;
  const element = event.target instanceof Element ? event.target : null;
  if (element?.closest(TYPING)) return null;
  if (event.code === "Space" && (element?.closest(OWN_KEYS) || element?.matches(SCROLLED))) return null;
  return KEYS[event.code] ?? null;
}
