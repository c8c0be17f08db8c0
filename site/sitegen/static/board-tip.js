// The line nearest to the pointer, by name, with its figures there.
"use strict";
window.CB.boardTip = (board, plot, { seen, heat, zoom }) => {
  const { el, pct, num } = CB;
  const { n } = CB.allModels();
  const NEAR = 26; // pixels within which a line answers to the pointer
  let hot = null;
  function point(event) {
    const { data } = board, box = plot.getBoundingClientRect(), y = (event.clientY - box.top) / box.height;
    const k = CB.under(data, zoom().back((event.clientX - box.left) / box.width) * data.grid[data.g - 1]);
    let best = -1, least = NEAR / box.height;
    for (const i of seen()) {
      const gap = Math.abs(zoom().y(1 - data.counts[i * data.g + k] / n) - y);
      if (gap < least || (gap === least && best < 0)) { best = i; least = gap; }
    }
    const slug = best < 0 ? null : data.slugs[best];
    if (slug !== hot) heat(slug);
    hot = slug;
    tell(slug, k, event.clientX - box.left, box.width);
  }
  function tell(slug, k, x, width) {
    let tip = plot.querySelector(".tip");
    if (!slug) { tip?.remove(); hot = null; return; }
    const { data } = board, count = data.counts[data.place.get(slug) * data.g + k], [low, high] = CB.interval(count, n);
    if (!tip) { tip = el("div", { class: "tip", "aria-hidden": "true" }); plot.append(tip); }
    const letter = board.letterOf(slug);
    tip.replaceChildren(...(letter ? [el("span", { class: `badge ${board.styleOf(slug)}` }, letter), " "] : []), el("b", {}, board.titleOf(slug)),
      el("span", {}, `ε = ${num(data.grid[k], 4)}: ${pct(count / n)} % robust (${pct(low)}–${pct(high)})`));
    tip.style.left = x < width / 2 ? `${x + 14}px` : "auto";
    tip.style.right = x < width / 2 ? "auto" : `${width - x + 14}px`;
  }
  return { point, tell };
};
