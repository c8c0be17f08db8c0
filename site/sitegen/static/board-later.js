// A large board is read without its data. They are loaded, with the scripts that move it, when its reader turns to it: by
// pointing at it, a tap, the keyboard, or an address that says what to show. A finger that scrolls over it does not.
"use strict";
(() => {
  const home = document.getElementById("board"), turns = ["pointerover", "pointerdown", "click", "focusin"];
  function load() {
    for (const name of turns) home.removeEventListener(name, turned);
    for (const src of home.dataset.later.split(" ")) document.head.append(Object.assign(document.createElement("script"), { src, async: false }));
  }
  function turned(event) {
    const kind = event.pointerType ?? "", held = event.target.closest(".slider, .tools");
    if (event.type === "pointerover" ? kind === "mouse" : event.type !== "pointerdown" || held) load();
  }
  for (const node of home.querySelectorAll(".js")) if (!["pager", "filtered", "readout"].includes(node.id)) node.hidden = false;
  if (location.search) load(); else for (const name of turns) home.addEventListener(name, turned, { passive: true });
})();
