// The curves of the compared models: one chart to zoom, with a legend that hides and shows; or a panel for each.
"use strict";
window.CB.compareCurves = ({ changed, toggled }) => {
  const { el, svg, pct, num, W, H } = CB;
  const { n } = CB.allModels();
  const $ = (id) => document.getElementById(id), home = $("cmpcurves");
  let zoom = null, shown = null;

  // models: [{slug, title, letter, style, counts, proven}]; hidden: a Set of slugs; crossings: [position, slugs, slug, text].
  function draw(data, models, { common, hidden, crossings, view }) {
    const { grid, g } = data, xs = grid.map((x) => x / grid[g - 1]), seen = models.filter((m) => !hidden.has(m.slug));
    const ys = (counts) => Array.from(counts, (c) => 1 - c / n);
    const lines = [];
    for (const m of seen) if (m.proven) lines.push({ cls: `${m.style.split(" ")[0]} dots`, key: m.slug, xs, ys: ys(m.proven), step: true });
    for (const m of seen) lines.push({ cls: `${m.style} thick`, key: m.slug, xs, ys: ys(m.counts), step: true });
    const marks = crossings.filter(([, slugs]) => slugs.every((slug) => !hidden.has(slug)));
    const crossed = marks.map(([p, [ahead], text]) => [xs[p], 1 - models.find((m) => m.slug === ahead).counts[p] / n, text]);
    const plot = CB.draw(home, { ...common, label: `Curves in ${data.symbol}. Robust accuracy of ${seen.length} models against ε.`, yLabel: "robust accuracy", yTicks: CB.percentTicks, lines, crossings: crossed });
    shown = { data, seen };
    zoom = CB.zoom(plot, { end: grid[g - 1], counts: data.whole, changed: (next) => { letters(plot); changed(zoom.whole() ? null : next); } });
    const list = el("ul", { class: "legend" }, ...models.map((m) => el("li", { "data-k": m.slug }, el("span", { class: `badge ${m.style}`, "aria-hidden": "true" }, m.letter), m.title)));
    plot.parentNode.append(list);
    CB.legend(list, { hidden, toggle: async (slug) => { await toggled(slug); home.querySelector(`.legend li[data-k="${CSS.escape(slug)}"] button`)?.focus(); }, heat: (slug) => heat(plot, slug) });
    plot.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && !event.buttons) point(plot, event); });
    plot.addEventListener("pointerleave", () => { heat(plot, null); plot.querySelector(".tip")?.remove(); });
    if (view) zoom.set(view); else letters(plot);
  }
  function letters(plot) {
    const { data, seen } = shown, end = data.grid[data.g - 1];
    for (const old of plot.querySelectorAll(":scope > .badge")) old.remove();
    CB.letterPlaces(seen.map((m) => m.counts), n, data.grid, zoom.view).forEach((p, k) => {
      if (p === null) return;
      const style = `left:${100 * zoom.x(data.grid[p] / end)}%;top:${100 * zoom.y(1 - seen[k].counts[p] / n)}%`;
      plot.append(el("span", { class: `badge ${seen[k].style}`, style, "aria-hidden": "true" }, seen[k].letter));
    });
  }
  function heat(plot, slug) {
    const lines = [...plot.querySelectorAll("path.line")];
    plot.classList.toggle("dim", lines.some((line) => line.dataset.k === slug));
    for (const line of lines) line.classList.toggle("hotline", line.dataset.k === slug);
  }
  function point(plot, event) {
    const { data, seen } = shown, box = plot.getBoundingClientRect(), y = (event.clientY - box.top) / box.height;
    const p = CB.under(data, zoom.back((event.clientX - box.left) / box.width) * data.grid[data.g - 1]);
    const gap = (m) => Math.abs(zoom.y(1 - m.counts[p] / n) - y) * box.height;
    const best = seen.slice().sort((a, b) => gap(a) - gap(b))[0], near = best && gap(best) < 26 ? best : null;
    heat(plot, near?.slug ?? null);
    plot.querySelector(".tip")?.remove();
    if (!near) return;
    const [low, high] = CB.interval(near.counts[p], n), x = event.clientX - box.left;
    plot.append(el("div", { class: "tip", "aria-hidden": "true", style: x < box.width / 2 ? `left:${x + 14}px` : `right:${box.width - x + 14}px` },
      el("span", { class: `badge ${near.style}` }, near.letter), " ", el("b", {}, near.title),
      el("span", {}, `ε = ${num(data.grid[p], 4)}: ${pct(near.counts[p] / n)} % robust (${pct(low)}–${pct(high)})`)));
  }
  // A panel for each that is seen, the others pale behind it.
  function panels(data, models, hidden) {
    const { grid, g } = data, xs = grid.map((x) => x / grid[g - 1]), seen = models.filter((m) => !hidden.has(m.slug));
    const d = (counts) => CB.path(xs, Array.from(counts, (c) => 1 - c / n), true), own = new Map(seen.map((m) => [m, d(m.counts)]));
    $("cmppanels").replaceChildren(...seen.map((m) => {
      const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": `${m.title}. ${data.label}` });
      picture.append(svg("path", { class: "grid", d: CB.percentTicks.map(([y]) => `M0 ${y * H}H${W}`).join("") }));
      for (const other of seen) if (other !== m) picture.append(svg("path", { class: `line ${other.style} thick pale`, d: own.get(other) }));
      if (m.proven) picture.append(svg("path", { class: `line ${m.style.split(" ")[0]} dots`, d: d(m.proven) }));
      picture.append(svg("path", { class: `line ${m.style} thick`, d: own.get(m) }));
      const plot = el("div", { class: "plot" }, picture);
      for (const x of [data.ticks[0], data.ticks.at(-1)]) plot.append(el("span", { class: "xt", style: `left:${100 * x / grid[g - 1]}%` }, String(x)));
      for (const [y, text] of [0, 2, 4].map((k) => CB.percentTicks[k])) plot.append(el("span", { class: "yt", style: `top:${100 * y}%` }, text));
      const name = el("figcaption", {}, el("span", { class: `badge ${m.style}` }, m.letter), " ", m.title);
      return el("li", {}, el("figure", {}, name, el("div", { class: "chart board small" }, plot)));
    }));
  }
  function take(form, name) {
    const { data, seen } = shown;
    if (form === "csv") { CB.picture.save(`${name}.csv`, CB.picture.curves(data.grid, seen.map((m) => [m.slug, m.counts]), n, zoom.view), "text/csv"); return; }
    const drawn = CB.picture.svg(home, { title: `Curves in ${data.symbol}`, named: seen.map((m) => [m.letter, m.title]) });
    if (form === "svg") CB.picture.save(`${name}.svg`, drawn, "image/svg+xml");
    else CB.picture.png(drawn).then((blob) => CB.picture.save(`${name}.png`, blob, "image/png"));
  }
  return { draw, panels, take };
};
