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
  // What is folded opens when a link leads to it.
  const unfold = () => {
    let target = null;
    try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { /* no address of ours */ }
    const fold = target?.closest(".fold") ?? target?.querySelector(":scope > .fold");
    if (fold && !fold.open) { fold.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", unfold);
  // A button that copies, on every text that is there to be taken; without a clipboard the text is selected.
  function copying(pre) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy js", textContent: "Copy" });
    const text = pre.textContent;
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { getSelection().selectAllChildren(pre); button.textContent = "Selected"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    const box = document.createElement("div");
    box.className = "copybox";
    pre.replaceWith(box);
    box.append(pre, button);
  }
  document.addEventListener("DOMContentLoaded", () => {
    for (const pre of document.querySelectorAll("main pre")) copying(pre);
    unfold();
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
