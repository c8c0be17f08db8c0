// Every page: the choice of light or dark, and what only makes sense with scripts.
"use strict";
(() => {
  const root = document.documentElement;
  const kinds = ["auto", "light", "dark"];
  let kind = "auto";
  try { kind = localStorage.getItem("curveboard-theme") ?? "auto"; } catch { /* storage is not allowed: no memory */ }
  const apply = () => { if (kind === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = kind; };
  apply();
  root.classList.add("scripted");
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-toggle]");
    if (!button) return;
    const say = () => { button.textContent = `Theme: ${kind}`; };
    say();
    button.hidden = false;
    button.addEventListener("click", () => {
      kind = kinds[(kinds.indexOf(kind) + 1) % kinds.length];
      try { localStorage.setItem("curveboard-theme", kind); } catch { /* as above */ }
      apply();
      say();
    });
  });
})();
