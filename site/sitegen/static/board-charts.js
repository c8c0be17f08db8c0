// The board's charts are drawn by the server. Here lines are lifted, hidden, zoomed and named, and those that a picture holds
// are drawn when they are asked for, from the same counts.
"use strict";
window.CB.boardCharts = (board) => {
  const { el, svg } = CB;
  const { n, highlighted } = CB.allModels();
  const $ = (id) => document.getElementById(id);
  const MOST = 500, GRIP = 9; // curves drawn at most; pixels beside the line of ε within which it is gripped
  let plots = [], hot = null, zoom = null, tip = null, map = null;

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
  // Whether the legend leaves a model's lines in sight; those without a letter go together.
  const shown = (slug) => !board.state.hidden.has(board.letterOf(slug) ? slug : "*");
  const seen = () => board.visible.filter((i) => shown(board.data.slugs[i]));

  // The parts of the page that belong to a threat, as the server made them.
  function show(fresh) {
    const { data } = board;
    if (fresh) {
      for (const name of ["curves", "ranks"]) $(name).innerHTML = board.parts[name];
      $("strip").outerHTML = board.parts.strip;
      $("leaders").innerHTML = board.parts.sentence;
      $("lettered").innerHTML = board.parts.lettered;
      $("aparthere").innerHTML = board.parts.apart;
      for (const part of ["curves", "ranks"]) $(part).closest("figure").querySelector("strong").textContent = `${part === "ranks" ? "Ranks" : "Robustness curves"} in ${data.symbol}`;
    }
    plots = ["curves", "ranks"].map((name) => {
      const plot = $(name).querySelector(".plot"), cursor = el("div", { class: "cursor" });
      plot.append(el("div", { class: "cursorbox" }, cursor));
      plot.classList.add("hit");
      return { plot, cursor };
    });
    const [{ plot }, ranks] = plots, behindLines = plot.querySelector(".window");
    if (behindLines) {
      behindLines.replaceChildren(el("canvas", { class: "backdrop", "aria-hidden": "true" }));
      new ResizeObserver(paint).observe(behindLines);
    }
    ranks.plot.addEventListener("pointerdown", (event) => { if (!event.button) grab(ranks.plot, event); });
    plot.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && !event.buttons) { tip.point(event); plot.classList.toggle("grip", onLine(event)); } });
    plot.addEventListener("pointerleave", () => { heat(null); tip.tell(null); });
    map = CB.rankMap(ranks.plot, data);
    tip = CB.boardTip(board, plot, { seen, heat, zoom: () => zoom });
    zoom = CB.zoom(plot, { end: data.grid[data.g - 1], counts: data.whole, handles, click: (event) => { board.move(at(plot, event)); board.settle(); }, changed });
    hot = null;
  }
  const at = (plot, event) => {
    const { data } = board, box = plot.getBoundingClientRect();
    return CB.nearest(data.grid, zoom.back((event.clientX - box.left) / box.width) * data.grid[data.g - 1]);
  };
  function onLine(event) {
    const box = plots[0].plot.getBoundingClientRect(), { data, state } = board;
    return Math.abs(box.left + zoom.x(data.grid[state.at] / data.grid[data.g - 1]) * box.width - event.clientX) < GRIP;
  }
  // On the curves a drag zooms, unless it begins on the line of ε, or is a finger's on the whole chart.
  function handles(event) {
    return onLine(event) || (event.pointerType === "touch" && zoom.whole()) ? grab(plots[0].plot, event) : null;
  }
  // ε follows the pointer; a finger's only once it moves or is lifted, since it may be about to scroll the page or to zoom.
  // Returns what puts ε back.
  function grab(plot, event) {
    const before = board.state.at, follow = (e) => board.move(at(plot, e)), end = () => { plot.onpointermove = plot.onpointerup = plot.onpointercancel = null; };
    const undo = () => { end(); board.move(before); board.settle(); };
    plot.setPointerCapture(event.pointerId);
    if (event.pointerType !== "touch") follow(event);
    plot.onpointermove = follow;
    plot.onpointerup = (e) => { end(); follow(e); board.settle(); };
    plot.onpointercancel = undo;
    return undo;
  }
  function heat(slug) {
    if (hot) {
      for (const line of linesOf(hot)) { line.classList.remove("hotline"); if (line.dataset.added === "hot") line.remove(); }
    }
    hot = slug && board.data.place.has(slug) && shown(slug) ? slug : null;
    for (const { plot } of plots) plot.classList.toggle("dim", Boolean(hot));
    if (!hot) return;
    if (!onCurves().querySelector(`path[data-k="${CSS.escape(hot)}"]`)) drawn(hot, "faint").dataset.added = "hot";
    for (const line of linesOf(hot)) line.classList.add("hotline");
  }

  // Models without a letter, the best at the reference budget first.
  function behind() {
    const { data } = board, at = CB.nearest(data.grid, data.published[0]);
    const found = seen().filter((i) => !board.letterOf(data.slugs[i])).sort((a, b) => data.counts[b * data.g + at] - data.counts[a * data.g + at]);
    return found.slice(0, MOST).map((i) => data.slugs[i]);
  }
  // Curves that are too many for the page: painted, where the page without scripts has a picture.
  const canvas = () => plots[0].plot.querySelector("canvas.backdrop");
  const pictured = () => canvas() ? behind().map(pathOf) : [];
  let painting = 0;
  function paint() {
    if (canvas() && !painting) painting = requestAnimationFrame(() => { painting = 0; if (canvas()) stroke(canvas()); });
  }
  function stroke(picture) {
    const { data } = board, [left, right, top, bottom] = zoom.view, scale = devicePixelRatio || 1, end = data.grid[data.g - 1];
    const w = picture.width = Math.round(picture.clientWidth * scale), h = picture.height = Math.round(picture.clientHeight * scale);
    const pen = picture.getContext("2d"), x = data.grid.map((v) => (v / end - left) / (right - left) * w);
    const y = (count) => (1 - count / n - top) / (bottom - top) * h;
    Object.assign(pen, { strokeStyle: "#8895a1", globalAlpha: 0.5, lineWidth: scale, lineJoin: "round" });
    for (const slug of behind()) {
      const counts = row(slug);
      pen.beginPath();
      pen.moveTo(x[0], y(counts[0]));
      for (let k = 1; k < data.g; k++) if (counts[k] !== counts[k - 1]) { pen.lineTo(x[k], y(counts[k - 1])); pen.lineTo(x[k], y(counts[k])); }
      pen.lineTo(x[data.g - 1], y(counts[data.g - 1]));
      pen.stroke();
    }
  }

  // Which lines are seen, and the letters of models that were chosen.
  function refresh() {
    const { data, state } = board, rows = new Set(board.visible.map((i) => data.slugs[i])), left = new Set(seen().map((i) => data.slugs[i]));
    const curves = plots[0].plot, narrowed = rows.size < data.slugs.length;
    heat(null);
    for (const line of curves.querySelectorAll("path[data-added]")) line.remove();
    paint();
    for (const { plot } of plots) {
      for (const part of plot.querySelectorAll("[data-k]")) part.toggleAttribute("hidden", !left.has(part.dataset.k));
      for (const part of plot.querySelectorAll("path[data-k]")) part.style.display = left.has(part.dataset.k) ? "" : "none";
      for (const cross of plot.querySelectorAll(".cross")) {
        const both = cross.dataset.of ? cross.dataset.of.split(" ").every((slug) => left.has(slug)) : left.size === data.slugs.length;
        cross.style.display = both && !narrowed ? "" : "none";
      }
      for (const line of plot.querySelectorAll("path.chosen")) { line.setAttribute("class", "line faint"); }
    }
    letters();
    legend();
  }
  // The letters of the models that the page began with, and of those that were chosen, as far as they are seen.
  const chosen = () => { const rows = new Set(board.visible.map((i) => board.data.slugs[i])); return board.state.sel.filter((slug) => !highlighted.includes(slug) && rows.has(slug)); };
  function letters() {
    const { data, state } = board, { plot } = plots[0];
    for (const badge of plot.querySelectorAll(".badge.added")) badge.remove();
    const reference = CB.nearest(data.grid, data.published[0]);
    const front = highlighted.filter((slug) => data.place.has(slug)).sort((a, b) => {
      const i = data.place.get(a), j = data.place.get(b);
      return row(b)[reference] - row(a)[reference] || data.area[j] - data.area[i] || (a < b ? -1 : 1);
    }).filter((slug) => !state.hidden.has(slug));
    const more = chosen().filter((slug) => !state.hidden.has(slug)), everyone = [...front, ...more], end = data.grid[data.g - 1];
    const places = CB.letterPlaces(everyone.map(row), n, data.grid, zoom.view);
    everyone.forEach((slug, k) => {
      const badge = k < front.length ? plot.querySelector(`.badge[data-k="${CSS.escape(slug)}"]`) : el("span", { class: `badge added ${board.styleOf(slug)}`, "aria-hidden": "true" }, board.letterOf(slug));
      if (places[k] === null) badge?.setAttribute("style", "display:none");
      else badge?.setAttribute("style", `left:${percent(zoom.x(data.grid[places[k]] / end))};top:${percent(zoom.y(1 - row(slug)[places[k]] / n))}`);
      if (k < front.length) return;
      plot.append(badge);
      const lines = linesOf(slug);
      if (!lines.some((line) => plot.contains(line))) lines.push(drawn(slug, "faint"));
      for (const line of lines) line.setAttribute("class", `line ${board.styleOf(slug)} thick chosen`);
    });
  }
  function legend() {
    const list = $("curves").querySelector(".legend");
    if (!list) return;
    for (const item of list.querySelectorAll("li[data-added]")) item.remove();
    for (const slug of chosen()) list.append(el("li", { "data-k": slug, "data-added": "" }, el("span", { class: `badge ${board.styleOf(slug)}` }, board.letterOf(slug)), board.titleOf(slug)));
    const rows = new Set(board.visible.map((i) => board.data.slugs[i]));
    for (const item of list.children) item.hidden = item.dataset.k !== "*" && !rows.has(item.dataset.k);
    const toggle = (key) => {
      const { hidden } = board.state;
      if (!hidden.delete(key)) hidden.add(key);
      refresh();
      board.write();
    };
    CB.legend(list, { hidden: board.state.hidden, toggle, heat });
  }

  // ---- zoom: what is seen of the curves is also what the strip, the slider and the map of ranks span
  function changed(view) {
    const { data } = board, end = data.grid[data.g - 1], first = data.grid.findIndex((v) => v / end >= view[0] - 1e-6), after = data.grid.findIndex((v) => v / end > view[1] + 1e-6);
    board.state.view = zoom.whole() ? null : view;
    const last = (after < 0 ? data.g : after) - 1;
    $("eps").min = String(Math.min(first, last));
    $("eps").max = String(last);
    $("eps").value = String(board.state.at);
    for (const part of $("strip").querySelectorAll(".strip > span")) {
      const { left, width } = (part.dataset.at ? JSON.parse(part.dataset.at) : part.style);
      part.dataset.at ??= JSON.stringify({ left, width });
      if (zoom.whole()) Object.assign(part.style, { left, width });
      else Object.assign(part.style, { left: `${100 * zoom.x(parseFloat(left) / 100)}%`, width: `${parseFloat(width) / (view[1] - view[0])}%` });
    }
    map.set(view);
    paint();
    tip.tell(null);
    letters();
    cursor();
    board.write();
  }
  function look(view) { if (view) zoom.set(view); else if (!zoom.whole()) zoom.set([0, 1, 0, 1]); }
  function cursor() {
    const { data, state } = board;
    for (const { cursor: c } of plots) c.style.transform = `translateX(${100 * zoom.x(data.grid[state.at] / data.grid[data.g - 1])}%)`;
  }
  const lines = () => seen().map((i) => [board.data.slugs[i], row(board.data.slugs[i])]);
  return { show, refresh, cursor, heat, pictured, look, lines };
};
