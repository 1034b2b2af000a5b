// Requests to the server, and the verdict that it has not confirmed yet.

const UNSENT = "palmette-unsent";
const WAIT = 20_000; // milliseconds

export class Refusal extends Error {
  constructor(status, problem, wayOut) {
    super(problem);
    this.status = status;
    this.wayOut = wayOut;
  }
}

// The answer to a request. Without a body it only reads.
// Throws Refusal for what the server refuses, with the status 0 where it cannot be reached.
export async function ask(path, body) {
  const options = { signal: AbortSignal.timeout(WAIT), credentials: "same-origin" };
  if (body !== undefined) {
    Object.assign(options, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  }
  let response;
  let given;
  try {
    response = await fetch(path, options);
    given = await response.json();
  } catch {
    if (response && !response.ok) throw new Refusal(response.status, "The server failed.", "Look at what it printed.");
    throw new Refusal(0, "The server cannot be reached.", "");
  }
  if (!response.ok) throw new Refusal(response.status, given.problem ?? "The server failed.", given.way_out ?? "");
  return given;
}

// Kept in the browser until the server confirms it, so it outlives a closed tab.
export const unsent = {
  memory: null, // where the browser keeps nothing for us
  get() {
    try {
      return JSON.parse(localStorage.getItem(UNSENT));
    } catch {
      return this.memory;
    }
  },
  set(verdict) {
    this.memory = verdict;
    try {
      localStorage.setItem(UNSENT, JSON.stringify(verdict));
    } catch {
      // The page still holds it.
    }
  },
  clear() {
    this.memory = null;
    try {
      localStorage.removeItem(UNSENT);
    } catch {
      // There is nothing then.
    }
  },
};
