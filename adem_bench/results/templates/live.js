"use strict";
// Pages of `adem-bench view` ask whether their runs have changed, and then load again: at once, or
// by a click where the reader has begun to search or to unfold something, which would be lost.
{
  const SECONDS = 2;
  const state = document.querySelector(".site .state");
  const version = document.body.dataset.version;
  let busy = false;
  for (const kind of ["input", "toggle"]) {
    document.addEventListener(kind, () => { busy = true; }, true);
  }
  document.addEventListener("click", (event) => { busy ||= Boolean(event.target.closest(".browser")); });

  async function look() {
    if (document.hidden) return;
    const page = location.pathname + location.search;
    let newest;
    try {
      const answer = await fetch("/version?" + new URLSearchParams({ page }));
      newest = await answer.text();
    } catch {
      state.textContent = "the server has ended";
      return;
    }
    if (newest === version) {
      state.textContent = "current";
    } else if (!busy) {
      location.reload();
    } else if (!state.querySelector("button")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "New results: load them";
      button.addEventListener("click", () => location.reload());
      state.replaceChildren(button);
    }
  }

  look();
  setInterval(look, SECONDS * 1000);
}
