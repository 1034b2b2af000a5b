// Requests to the server, and what it has not confirmed yet.

const WAIT = 20_000; // milliseconds

// A request that was refused. Pages say so in words of their own, by the status.
export class Refusal extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
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
    throw new Refusal(response && !response.ok ? response.status : 0);
  }
  if (!response.ok) throw new Refusal(response.status);
  return given;
}

// Exchanges the token of the link for a cookie. The token leaves the address.
export async function letIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await ask("/api/session", { token });
}

// A place in the browser for one thing that the server has not confirmed yet, so it outlives a closed tab.
export class Unsent {
  #memory = null; // where the browser keeps nothing for us

  constructor(name) {
    this.name = name;
  }

  get() {
    try {
      return JSON.parse(localStorage.getItem(this.name));
    } catch {
      return this.#memory;
    }
  }

  set(said) {
    this.#memory = said;
    try {
      localStorage.setItem(this.name, JSON.stringify(said));
    } catch {
      // The page still holds it.
    }
  }

  clear() {
    this.#memory = null;
    try {
      localStorage.removeItem(this.name);
    } catch {
      // There is nothing then.
    }
  }
}
