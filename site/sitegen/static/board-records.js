// Records over time: the server's until ε moves or rows are filtered, then found anew by the rules of charts/history.py.
"use strict";
window.CB.boardRecords = (board) => {
  const { el, svg, W, H, num, pct } = CB;
  const { n, models } = CB.allModels();
  const $ = (id) => document.getElementById(id);
  const bySlug = new Map(models.map((m) => [m.slug, m]));
  let touched = false;

  function show(fresh) {
    if (!fresh) return;
    $("records").innerHTML = board.parts.records;
    $("recordlist").innerHTML = board.parts.recordlist;
    touched = false;
  }
  // Who raised the record, the oldest first: [{year, i, count}].
  function found(dated) {
    const { data, state } = board, count = (i) => data.counts[i * data.g + state.at], records = [];
    dated.sort((a, b) => a.year - b.year || count(b.i) - count(a.i) || data.area[b.i] - data.area[a.i] || (data.slugs[a.i] < data.slugs[b.i] ? -1 : 1));
    for (const { year, i } of dated) if (count(i) > (records.at(-1)?.count ?? 0)) records.push({ year, i, count: count(i) });
    return records;
  }
  // moving: the list is left for when ε rests.
  function update(moving = false) {
    const { data, state, visible } = board;
    if (!touched && state.at === CB.nearest(data.grid, data.published[0]) && visible.length === data.m) return;
    touched = true;
    const year = (i) => bySlug.get(data.slugs[i]).year;
    const dated = visible.filter((i) => year(i) != null).map((i) => ({ year: year(i), i })), records = found(dated);
    draw(dated, records);
    const eps = num(data.grid[state.at], 4);
    $("recordstitle").textContent = `State of the art at ${state.norm === "union" ? `${eps} × the reference budgets` : `${data.symbol} ≤ ${eps}`}`;
    if (!moving) list(records, visible.filter((i) => year(i) == null));
  }
  function draw(dated, records) {
    const { data, state } = board, plot = $("records").querySelector(".plot"), picture = plot.querySelector("svg");
    const years = dated.map((d) => d.year), low = Math.min(...years) - 0.5, high = Math.max(...years) + 0.5;
    const x = (year) => (year - low) / (high - low), y = (count) => 1 - count / n, point = (px, py) => `${Math.round(px * W)} ${Math.round(py * H)}`;
    const dots = dated.map(({ year, i }) => `M${point(x(year), y(data.counts[i * data.g + state.at]))}h0`).join("");
    let d = "";
    for (const r of records) d += d ? `H${Math.round(x(r.year) * W)}V${Math.round(y(r.count) * H)}` : `M${point(x(r.year), y(r.count))}`;
    const part = (cls, path) => svg("path", { class: cls, d: path });
    picture.replaceChildren(picture.querySelector(".grid"), part("line s7 thick record", d && `${d}H${W}`), part("dot s6", dots), part("dot s7 own", records.map((r) => `M${point(x(r.year), y(r.count))}h0`).join("")));
    for (const old of plot.querySelectorAll(".badge, .xt")) old.remove();
    if (!years.length) return;
    const first = Math.min(...years), last = Math.max(...years), step = Math.ceil((last - first + 1) / 8);
    const ticks = [];
    for (let v = first; v <= last; v += step) ticks.push(v);
    picture.querySelector(".grid").setAttribute("d", [0, 250, 500, 750, 1000].map((h) => `M0 ${h}H${W}`).join("") + ticks.map((v) => `M${Math.round(x(v) * W)} ${H}v12`).join(""));
    for (const v of ticks) plot.append(el("span", { class: "xt", style: `left:${100 * x(v)}%` }, String(v)));
    CB.spread(records.map((r) => [x(r.year), y(r.count)])).forEach(([left, top], k) => plot.append(el("span", { class: "badge s7", style: `left:${100 * left}%;top:${100 * top}%`, "aria-hidden": "true" }, String(k + 1))));
  }
  function list(records, undated) {
    const { data } = board, title = (i) => bySlug.get(data.slugs[i]).title;
    const items = records.map(({ year, i, count }) => {
      const slug = data.slugs[i], letter = board.letterOf(slug), [low, high] = CB.interval(count, n);
      const badge = letter ? [el("span", { class: `badge ${board.styleOf(slug)}` }, letter), " "] : [];
      return el("li", {}, el("b", {}, `since ${year}`), " ", ...badge, el("a", { href: `models/${slug}/index.html` }, title(i)), `: ${pct(count / n)} % `, el("span", { class: "ci" }, `${pct(low)}–${pct(high)}`));
    });
    const none = el("p", { class: "under" }, "No model with a year is robust on any image here."), lacking = CB.lacking(undated.map(title), "no year");
    $("recordlist").replaceChildren(items.length ? el("ol", { class: "records" }, ...items) : none, ...(lacking ? [el("p", { class: "under muted" }, lacking)] : []));
  }
  return { show, update };
};
