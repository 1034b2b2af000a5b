"use strict";
(() => {
  const moments = Array.from(document.querySelectorAll("#moments > section"));
  if (!moments.length) return;
  const slider = document.getElementById("moment");
  const shown = document.getElementById("shown");
  const previous = document.getElementById("previous");
  const next = document.getElementById("next");
  const all = document.getElementById("all");
  const follow = document.getElementById("follow"); // only where a question came again

  function refresh() {
    const followed = follow ? follow.value : "";
    const every = all.getAttribute("aria-pressed") === "true";
    const at = Number(slider.value);
    moments.forEach((moment, index) => {
      const cards = Array.from(moment.querySelectorAll("article"));
      for (const card of cards) card.hidden = followed !== "" && card.dataset.question !== followed;
      moment.hidden = followed !== "" ? cards.every((card) => card.hidden) : !every && index !== at;
    });
    const still = every || followed !== "";
    slider.disabled = still;
    previous.disabled = still || at === 0;
    next.disabled = still || at === moments.length - 1;
    all.disabled = followed !== "";
    shown.textContent = still ? "any step" : moments[at].dataset.step;
  }

  function move(by) {
    slider.value = String(Number(slider.value) + by);
    refresh();
  }

  slider.addEventListener("input", refresh);
  previous.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));
  all.addEventListener("click", () => {
    all.setAttribute("aria-pressed", String(all.getAttribute("aria-pressed") !== "true"));
    refresh();
  });
  if (follow) follow.addEventListener("change", refresh);
  document.getElementById("tools").hidden = false;
  refresh();
})();
