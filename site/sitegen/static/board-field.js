// Robust accuracy against accuracy at ε = 0, parameters, cost or year: the server's chart until ε moves, rows are filtered or
// another axis is chosen, then drawn anew by the same rules.
"use strict";
window.CB.boardField = (board) => {
  const { el, svg, W, H, num } = CB;
  const { n, models, against, highlighted } = CB.allModels();
  const $ = (id) => document.getElementById(id), home = $("field"), chooser = $("against");
  const bySlug = new Map(models.map((m) => [m.slug, m]));
  const CLEAN = { id: "accuracy", title: "accuracy at ε = 0", label: "accuracy at ε = 0", log: false, better: "higher", lacking: "" };
  const axes = [CLEAN, ...against];
  let touched = false;
  chooser.replaceChildren(...axes.map((axis) => el("option", { value: axis.id }, axis.title)));
  chooser.addEventListener("change", () => { board.state.against = chooser.value; update(); board.write(); });
  const chosen = () => axes.find((axis) => axis.id === board.state.against) ?? CLEAN;

  function show(fresh) {
    if (fresh) { home.innerHTML = board.parts.field; touched = false; }
  }
  const count = (value) => value >= 1e9 ? `${num(value / 1e9)} G` : value >= 1e6 ? `${num(value / 1e6)} M` : value >= 1e3 ? `${num(value / 1e3)} k` : num(value);
  // Where the axis begins and ends (in logarithms, if it has them), and its ticks: [[place, text]].
  function span(axis, values) {
    if (axis === CLEAN) {
      const left = Number(board.data.field);
      return { ends: [left, 1], ticks: [0, 0.25, 0.5, 0.75, 0.9, 0.95, 1].filter((v) => v >= left).map((v) => [v, `${num(100 * v)} %`]) };
    }
    const low = Math.min(...values), high = Math.max(...values), ticks = [];
    if (!axis.log) {
      const step = Math.max(Math.ceil((high - low + 1) / 8), 1);
      for (let v = low; v <= high; v += step) ticks.push([v, String(v)]);
      return { ends: [low - 0.5, high + 0.5], ticks };
    }
    const margin = Math.max((high - low) * 0.06, 0.05), ends = [low - margin, high + margin];
    for (let p = Math.floor(ends[0]); p <= ends[1]; p++) for (const f of [1, 2, 5]) {
      const at = p + Math.log10(f);
      if (at >= ends[0] && at <= ends[1] && (f === 1 || ends[1] - ends[0] < 2)) ticks.push([at, count(f * 10 ** p)]);
    }
    return { ends, ticks };
  }
  // The models that no other beats in both, from the worse value of the axis to the better.
  function front(points, higher) {
    const sign = higher ? -1 : 1, found = [];
    for (const p of points.slice().sort((a, b) => sign * (a.value - b.value) || b.robust - a.robust)) if (!found.length || p.robust > found.at(-1).robust) found.push(p);
    return found.reverse();
  }
  function steps(found, higher, x) {
    let d = "";
    if (higher) for (const p of found) { const top = Math.round((1 - p.robust) * H); d += `${d ? `V${top}` : `M0 ${top}`}H${Math.round(x(p.value) * W)}`; }
    else found.slice().reverse().forEach((p, k) => { const top = Math.round((1 - p.robust) * H), left = Math.round(x(p.value) * W); d += k ? `H${left}V${top}` : `M${left} ${top}`; });
    return higher || !found.length ? d : `${d}H${W}`;
  }
  function update() {
    const { data, state, visible } = board, axis = chosen();
    chooser.value = axis.id;
    if (!touched && axis === CLEAN && state.at === CB.nearest(data.grid, data.published[0]) && visible.length === data.m) return;
    touched = true;
    const raw = (i) => axis === CLEAN ? data.counts[i * data.g] / n : bySlug.get(data.slugs[i])[axis.id];
    const usable = (v) => v != null && (!axis.log || v > 0);
    const points = visible.filter((i) => usable(raw(i))).map((i) => ({ slug: data.slugs[i], value: axis.log ? Math.log10(raw(i)) : raw(i), robust: data.counts[i * data.g + state.at] / n }));
    const without = visible.filter((i) => !usable(raw(i))).map((i) => bySlug.get(data.slugs[i]).title);
    const { ends, ticks } = span(axis, points.length ? points.map((p) => p.value) : [0, 1]), x = (v) => (v - ends[0]) / (ends[1] - ends[0]);
    draw(points, x, ticks, axis);
    $("fieldlacking").textContent = CB.lacking(without, axis.lacking);
    $("fieldlacking").hidden = !without.length;
    $("fieldbetter").textContent = axis.better === "higher" ? "right" : "left";
    const eps = num(data.grid[state.at], 4), place = state.norm === "union" ? `${eps} × the reference budgets` : `${data.symbol} ≤ ${eps}`;
    $("fieldtitle").textContent = axis === CLEAN ? `Clean against robust accuracy at ${place}` : `Robust accuracy at ${place} against ${axis.title}`;
  }
  function draw(points, x, ticks, axis) {
    const plot = home.querySelector(".plot"), picture = plot.querySelector("svg"), higher = axis.better === "higher";
    const at = (p) => `M${Math.round(x(p.value) * W)} ${Math.round((1 - p.robust) * H)}h0`;
    const place = new Map(highlighted.map((slug, k) => [slug, k])), own = points.filter((p) => board.letterOf(p.slug));
    own.sort((a, b) => (place.get(a.slug) ?? 99) - (place.get(b.slug) ?? 99));
    const marks = own.map((p) => svg("path", { class: `dot ${board.styleOf(p.slug)} own`, d: at(p) }));
    const spots = CB.spread(own.map((p) => [x(p.value), 1 - p.robust]));
    const leaders = own.map((p, k) => svg("path", { class: `line ${board.styleOf(p.slug)} leader`, d: `M${Math.round(x(p.value) * W)} ${Math.round((1 - p.robust) * H)}L${Math.round(spots[k][0] * W)} ${Math.round(spots[k][1] * H)}` }));
    const grid = [0, 250, 500, 750, 1000].map((y) => `M0 ${y}H${W}`).join("") + ticks.map(([v]) => `M${Math.round(x(v) * W)} ${H}v12`).join("");
    picture.replaceChildren(svg("path", { class: "grid", d: grid }), svg("path", { class: "line faint front", d: steps(front(points, higher), higher, x) }), ...leaders,
      svg("path", { class: "dot s6", d: points.filter((p) => !board.letterOf(p.slug)).map(at).join("") }), ...marks);
    picture.setAttribute("aria-label", `Robust accuracy of ${points.length} models against ${axis.label}.`);
    for (const old of plot.querySelectorAll(".badge, .xt")) old.remove();
    for (const [v, text] of ticks) plot.append(el("span", { class: "xt", style: `left:${100 * x(v)}%` }, text));
    own.forEach((p, k) => plot.append(el("span", { class: `badge ${board.styleOf(p.slug)}`, "data-k": p.slug, style: `left:${100 * spots[k][0]}%;top:${100 * spots[k][1]}%`, "aria-hidden": "true", title: bySlug.get(p.slug).title }, board.letterOf(p.slug))));
    home.querySelector(".xlabel").textContent = axis.label;
  }
  return { show, update };
};
