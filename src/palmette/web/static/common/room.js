// What all rooms do with the server: look what is next, send what somebody said until it is confirmed, and come in.

import { $ } from "./page.js";
import { Refusal, Unsent, ask, letIn } from "./server.js";
import { problemText, text } from "./texts.js";

const RETRY = 3000; // milliseconds until a request is tried again
const FINAL = [409, 422]; // what is refused so can never be taken

export function say(what) {
  $("said").textContent = what;
}

export class Room {
  #retry = 0;

  // page: what the page holds. Its `busy` is true while something is on its way, so nothing else is done.
  // who: the key under which the page and the server's answers name the person.
  // desk: the path that says what is next. unsent: the place in the browser for what is not confirmed.
  // show(state): shows what is next. said(kept): called when something was confirmed. then(state): called after show.
  constructor({ page, who, desk, unsent, show, said, then = () => {} }) {
    Object.assign(this, { page, who, desk, show, said, then });
    this.unsent = new Unsent(unsent);
    $("again").addEventListener("click", () => this.send());
    addEventListener("online", () => this.unsentOfMine() && this.send());
  }

  unsentOfMine() {
    const kept = this.unsent.get();
    return kept?.path && kept[this.who] === this.page[this.who] ? kept : null;
  }

  // Null takes the message away.
  alert(refused) {
    $("alert").hidden = refused === null;
    if (refused === null) return;
    const kept = this.unsentOfMine() !== null;
    const problem = problemText(refused.status);
    $("problem").textContent = kept ? `${problem} ${text("kept")}` : problem;
    $("again").hidden = !kept;
  }

  // Sends what somebody said, and keeps it until the server confirms it. `more` is kept beside it.
  keep(path, body, more) {
    this.page.busy = true;
    this.unsent.set({ [this.who]: this.page[this.who], path, body, ...more });
    return this.send();
  }

  // Sends what is kept.
  async send() {
    clearTimeout(this.#retry);
    const kept = this.unsentOfMine();
    if (!kept) return this.look();
    this.page.busy = true;
    try {
      const state = await ask(kept.path, kept.body);
      this.unsent.clear();
      await this.#shown(state, () => this.said(kept));
    } catch (refused) {
      if (!(refused instanceof Refusal)) throw refused;
      if (FINAL.includes(refused.status)) {
        this.unsent.clear();
        await this.look();
        return this.alert(refused);
      }
      this.alert(refused);
      if (refused.status === 0) this.#retry = setTimeout(() => this.send(), RETRY);
    }
  }

  // Asks what is next, and shows it.
  async look(path = this.desk) {
    this.page.busy = true;
    try {
      const state = await ask(path);
      this.page[this.who] = state[this.who];
      if (this.unsentOfMine()) return await this.send();
      await this.#shown(state);
    } catch (refused) {
      this.failed(refused);
      if (refused.status === 0) setTimeout(() => this.look(path), RETRY);
    }
  }

  // Asks for a change that is not kept, such as an undo.
  async change(path, body, done) {
    this.page.busy = true;
    try {
      await this.#shown(await ask(path, body), done);
    } catch (refused) {
      this.failed(refused);
      this.page.busy = false;
    }
  }

  async #shown(state, done = () => {}) {
    this.alert(null);
    await this.show(state);
    done();
    this.then(state);
  }

  failed(refused) {
    if (!(refused instanceof Refusal)) throw refused;
    this.alert(refused);
  }

  async enter() {
    try {
      await letIn();
    } catch (refused) {
      return this.failed(refused);
    }
    await this.look();
  }
}
