// Clean against robust accuracy: the server's chart until ε moves or rows are filtered, then drawn anew by the same rules.
"use strict";
window.CB.boardField = (board) => {
  const { n } = CB.allModels();
  const $ = (id) => document.getElementById(id);
  let touched = false;

  function show(fresh) {
    if (fresh) { $("field").innerHTML = board.data.parts.field; }
    touched = false;
  }
  function update() {
    const { data, state, visible } = board;
    if (!touched && state.at === CB.nearest(data.grid, data.published[0]) && visible.length === data.m) return;
    touched = true;
    const plot = $("field").querySelector(".plot"), left = Number(data.field), { W, H } = CB;
    const clean = (i) => data.counts[i * data.g] / n, robust = (i) => data.counts[i * data.g + state.at] / n;
    const x = (v) => (v - left) / (1 - left), y = (v) => 1 - v;
    const lettered = new Set([...plot.querySelectorAll(".badge")].map((badge) => badge.dataset.k)), seen = new Set(visible.map((i) => data.slugs[i]));
    const grey = visible.filter((i) => !lettered.has(data.slugs[i])).map((i) => `M${Math.round(x(clean(i)) * W)} ${Math.round(y(robust(i)) * H)}h0`);
    plot.querySelector("path.dot")?.setAttribute("d", grey.join(""));
    for (const badge of plot.querySelectorAll(".badge")) {
      const i = data.place.get(badge.dataset.k);
      badge.style.top = `${100 * y(robust(i))}%`;
      badge.hidden = !seen.has(badge.dataset.k);
    }
    const front = [];
    for (const i of visible.slice().sort((a, b) => clean(b) - clean(a) || robust(b) - robust(a))) if (!front.length || robust(i) > robust(front.at(-1))) front.push(i);
    let d = "", from = 0;
    for (const i of front.reverse()) { const top = Math.round(y(robust(i)) * H); d += `${d ? `V${top}` : `M${from} ${top}`}H${Math.round(x(clean(i)) * W)}`; }
    plot.querySelector("path.front").setAttribute("d", d);
    const eps = CB.num(data.grid[state.at], 4);
    $("fieldtitle").textContent = `Clean against robust accuracy at ${state.norm === "union" ? `${eps} × the reference budgets` : `${data.symbol} ≤ ${eps}`}`;
  }
  return { show, update };
};
