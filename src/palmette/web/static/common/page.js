// What every page of the application needs.

export const $ = (id) => document.getElementById(id);

export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const DAY = 24 * 3600; // seconds

// Seconds for which the page was looked at, up to a day, which is the most that the server takes.
export function stopwatch() {
  let since = document.hidden ? null : performance.now();
  let total = 0;
  const turn = () => {
    if (since !== null) total += performance.now() - since;
    since = document.hidden ? null : performance.now();
  };
  document.addEventListener("visibilitychange", turn);
  return {
    seconds() {
      turn();
      return Math.min(Math.round(total) / 1000, DAY);
    },
    stop: () => document.removeEventListener("visibilitychange", turn),
  };
}
