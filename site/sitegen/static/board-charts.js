// The board's charts are drawn by the server. Here lines are lifted, hidden and named, and those that a picture holds are
// drawn when they are asked for, from the same counts.
"use strict";
window.CB.boardCharts = (board) => {
  const { el, pct, num, svg } = CB;
  const { n, highlighted } = CB.allModels();
  const $ = (id) => document.getElementById(id);
  const MOST = 200, NEAR = 26; // curves drawn at most; pixels within which a line answers to the pointer
  let plots = [], hot = null, narrowed = false;

  const percent = (share) => `${Number((100 * share).toPrecision(4))}%`; // as charts/html.py
  const row = (slug) => { const { data } = board, i = data.place.get(slug); return data.counts.subarray(i * data.g, (i + 1) * data.g); };
  function pathOf(slug) {
    const { data } = board, end = data.grid[data.g - 1];
    return CB.path(data.grid.map((x) => x / end), Array.from(row(slug), (c) => 1 - c / n), true);
  }
  const linesOf = (slug) => plots.flatMap(({ plot }) => [...plot.querySelectorAll(`path[data-k="${CSS.escape(slug)}"]`)]);
  const onCurves = () => plots[0].plot.querySelector("svg");
  function drawn(slug, cls) {
    const path = svg("path", { class: `line ${cls}`, d: pathOf(slug), "data-k": slug, "data-added": "" });
    onCurves().append(path);
    return path;
  }

  // The parts of the page that belong to a threat, as the server made them.
  function show(fresh) {
    const { data } = board;
    if (fresh) {
      for (const name of ["curves", "ranks"]) $(name).innerHTML = data.parts[name];
      $("strip").outerHTML = data.parts.strip;
      $("leaders").innerHTML = data.parts.sentence;
      $("lettered").innerHTML = data.parts.lettered;
      $("aparthere").innerHTML = data.parts.apart;
      for (const part of ["curves", "ranks"]) $(part).closest("figure").querySelector("strong").textContent = `${part === "ranks" ? "Ranks" : "Robustness curves"} in ${data.symbol}`;
    }
    plots = ["curves", "ranks"].map((name) => {
      const plot = $(name).querySelector(".plot"), cursor = el("div", { class: "cursor" });
      plot.append(el("div", { class: "cursorbox" }, cursor));
      plot.classList.add("hit");
      plot.addEventListener("pointerdown", (event) => grab(plot, event));
      plot.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && !event.buttons) point(plot, event); });
      plot.addEventListener("pointerleave", () => { heat(null); tell(null); });
      return { plot, cursor };
    });
    hot = null;
  }
  const at = (plot, event) => {
    const { data } = board, box = plot.getBoundingClientRect();
    return CB.nearest(data.grid, (event.clientX - box.left) / box.width * data.grid[data.g - 1]);
  };
  function grab(plot, event) {
    if (event.button) return;
    plot.setPointerCapture(event.pointerId);
    const follow = (e) => board.move(at(plot, e));
    follow(event);
    plot.onpointermove = follow;
    plot.onpointerup = plot.onpointercancel = () => { plot.onpointermove = null; board.settle(); };
  }
  // The line nearest to the pointer, by name, with its figures there.
  function point(plot, event) {
    if (plot !== plots[0].plot) return;
    const { data } = board, box = plot.getBoundingClientRect(), k = at(plot, event), y = (event.clientY - box.top) / box.height;
    let best = -1, least = NEAR / box.height;
    for (const i of board.visible) {
      const gap = Math.abs(1 - data.counts[i * data.g + k] / n - y);
      if (gap < least || (gap === least && best < 0)) { best = i; least = gap; }
    }
    const slug = best < 0 ? null : data.slugs[best];
    if (slug !== hot) heat(slug);
    tell(slug, k, event.clientX - box.left, box.width);
  }
  function tell(slug, k, x, width) {
    const { plot } = plots[0];
    let tip = plot.querySelector(".tip");
    if (!slug) { tip?.remove(); return; }
    const { data } = board, i = data.place.get(slug), count = data.counts[i * data.g + k], [low, high] = CB.interval(count, n);
    if (!tip) { tip = el("div", { class: "tip", "aria-hidden": "true" }); plot.append(tip); }
    const letter = board.letterOf(slug);
    tip.replaceChildren(...(letter ? [el("span", { class: `badge ${board.styleOf(slug)}` }, letter), " "] : []), el("b", {}, board.titleOf(slug)),
      el("span", {}, `ε = ${num(data.grid[k], 4)}: ${pct(count / n)} % robust (${pct(low)}–${pct(high)})`));
    tip.style.left = x < width / 2 ? `${x + 14}px` : "auto";
    tip.style.right = x < width / 2 ? "auto" : `${width - x + 14}px`;
  }
  function heat(slug) {
    if (hot) {
      for (const line of linesOf(hot)) { line.classList.remove("hotline"); if (line.dataset.added === "hot") line.remove(); }
    }
    hot = slug && board.data.place.has(slug) ? slug : null;
    for (const { plot } of plots) plot.classList.toggle("dim", Boolean(hot));
    if (!hot) return;
    if (!onCurves().querySelector(`path[data-k="${CSS.escape(hot)}"]`)) drawn(hot, "faint").dataset.added = "hot";
    for (const line of linesOf(hot)) line.classList.add("hotline");
  }

  // Models without a letter, the best at the reference budget first.
  function behind() {
    const { data } = board, at = CB.nearest(data.grid, data.published[0]);
    const found = board.visible.filter((i) => !board.letterOf(data.slugs[i])).sort((a, b) => data.counts[b * data.g + at] - data.counts[a * data.g + at]);
    return found.slice(0, MOST).map((i) => data.slugs[i]);
  }
  // Lines that the page holds as a picture only.
  const pictured = () => { const image = plots[0].plot.querySelector(".backdrop"); return image && !image.hidden ? behind().map(pathOf) : []; };

  // Which lines are seen, and the letters of models that were chosen.
  function refresh() {
    const { data, state } = board, seen = new Set(board.visible.map((i) => data.slugs[i]));
    const curves = plots[0].plot, backdrop = curves.querySelector(".backdrop");
    heat(null);
    for (const line of curves.querySelectorAll("path[data-added]")) line.remove();
    narrowed = seen.size < data.slugs.length;
    if (backdrop) {
      backdrop.hidden = narrowed;
      if (narrowed) {
        const front = onCurves().querySelector("path.thick");
        for (const slug of behind()) onCurves().insertBefore(drawn(slug, "faint"), front);
      }
    }
    for (const { plot } of plots) {
      for (const part of plot.querySelectorAll("[data-k]")) part.toggleAttribute("hidden", !seen.has(part.dataset.k));
      for (const part of plot.querySelectorAll("path[data-k]")) part.style.display = seen.has(part.dataset.k) ? "" : "none";
      for (const cross of plot.querySelectorAll(".cross")) cross.style.display = narrowed ? "none" : "";
      for (const line of plot.querySelectorAll("path.chosen")) { line.setAttribute("class", "line faint"); }
    }
    letters(state.sel.filter((slug) => !highlighted.includes(slug) && seen.has(slug)));
  }
  function letters(chosen) {
    const { data } = board, { plot } = plots[0];
    for (const badge of plot.querySelectorAll(".badge.added")) badge.remove();
    const reference = CB.nearest(data.grid, data.published[0]);
    const front = highlighted.filter((slug) => data.place.has(slug)).sort((a, b) => {
      const i = data.place.get(a), j = data.place.get(b);
      return row(b)[reference] - row(a)[reference] || data.area[j] - data.area[i] || (a < b ? -1 : 1);
    });
    const everyone = [...front, ...chosen], end = data.grid[data.g - 1];
    const places = CB.letterPlaces(everyone.map(row), n, data.grid);
    everyone.forEach((slug, k) => {
      const style = `left:${percent(data.grid[places[k]] / end)};top:${percent(1 - row(slug)[places[k]] / n)}`;
      if (k < front.length) { plot.querySelector(`.badge[data-k="${CSS.escape(slug)}"]`)?.setAttribute("style", style); return; }
      plot.append(el("span", { class: `badge added ${board.styleOf(slug)}`, style, "aria-hidden": "true" }, board.letterOf(slug)));
      const lines = linesOf(slug);
      if (!lines.some((line) => plot.contains(line))) lines.push(drawn(slug, "faint"));
      for (const line of lines) line.setAttribute("class", `line ${board.styleOf(slug)} thick chosen`);
    });
  }
  function cursor() {
    const { data, state } = board;
    for (const { cursor: c } of plots) c.style.transform = `translateX(${100 * data.grid[state.at] / data.grid[data.g - 1]}%)`;
  }
  return { show, refresh, cursor, heat, pictured };
};
