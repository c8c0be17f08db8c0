// The board: ε moves, and with it the line on both charts, the robust accuracies and the ranks. Every state is in the URL.
"use strict";
document.addEventListener("DOMContentLoaded", async () => {
  const board = document.getElementById("board");
  const table = document.getElementById("table");
  if (!board || !table || !CB.allModels()) return;
  const { n, highlighted, models } = CB.allModels();
  const { el, pct, num } = CB;
  const names = board.dataset.norms.split(" ");
  const $ = (id) => document.getElementById(id);
  const PAGE = 200, TOP = 12, MOST = 6, MARKED = 500, EXTRA = "IJKLMN";
  const index = new Map(models.map((m, i) => [m.slug, i]));
  const reference = await CB.norm(names[0]);
  const baseline = ranksAt(reference, CB.nearest(reference.grid, reference.published[0]));
  let data, state, plots = [], places = null;

  // ---- state and address
  const FILTERS = [
    ["arch", "Architecture", (m) => m.arch], ["method", "Training", (m) => m.method], ["year", "Year", (m) => m.year ? String(m.year) : ""],
    ["venue", "Venue", (m) => m.venue], ["extra", "Extra data", (m) => m.extra ? "yes" : "no"],
    ["size", "Parameters", (m) => m.size == null ? "" : m.size < 1e5 ? "below 100 000" : m.size < 1e6 ? "below 1 million" : m.size < 1e7 ? "below 10 million" : "10 million or more"],
    ["flags", "Warnings", (m) => m.flags.length ? "with warnings" : "without warnings"],
  ];
  function read() {
    const p = new URLSearchParams(location.search);
    const wanted = p.get("norm");
    state = {
      norm: names.includes(wanted) ? wanted : board.dataset.norm, eps: p.has("eps") ? Number(p.get("eps")) : null,
      sort: p.get("sort") ?? "rank", down: p.get("dir") === "desc", q: p.get("q") ?? "", page: Math.max(Number(p.get("page")) || 1, 1),
      cols: p.has("cols") ? p.get("cols").split(",").filter(Boolean) : null, sel: (p.get("sel") ?? "").split(",").filter((s) => index.has(s)).slice(0, MOST),
      filters: Object.fromEntries(FILTERS.map(([id]) => [id, p.get(id) ?? ""])),
    };
  }
  let writing = 0;
  function write(push = false) {
    clearTimeout(writing);
    const put = () => {
      const p = new URLSearchParams();
      if (state.norm !== board.dataset.norm) p.set("norm", state.norm);
      if (state.at !== CB.nearest(data.grid, data.published[0])) p.set("eps", String(data.grid[state.at]));
      if (state.sort !== "rank") p.set("sort", state.sort);
      if (state.down) p.set("dir", "desc");
      if (state.q) p.set("q", state.q);
      for (const [id, value] of Object.entries(state.filters)) if (value) p.set(id, value);
      if (state.cols) p.set("cols", state.cols.join(","));
      if (state.sel.length) p.set("sel", state.sel.join(","));
      if (state.page > 1) p.set("page", String(state.page));
      const query = p.toString();
      history[push ? "pushState" : "replaceState"](null, "", query ? `?${query}` : location.pathname);
    };
    if (push) put(); else writing = setTimeout(put, 200);
  }

  // ---- numbers
  function ranksAt(d, at) {
    const order = Array.from({ length: d.m }, (_, i) => i).sort((a, b) => d.counts[b * d.g + at] - d.counts[a * d.g + at]);
    const ranks = new Int32Array(d.m);
    order.forEach((i, k) => {
      const before = order[k - 1];
      ranks[i] = k && d.counts[before * d.g + at] === d.counts[i * d.g + at] ? ranks[before] : k + 1;
    });
    return ranks;
  }
  const count = (i) => data.counts[i * data.g + state.at];
  function rankInterval(i) {
    const k = CB.nearest(data.ranked, data.grid[state.at]), r = data.ranked.length;
    const low = Math.min(data.low[i * r + k], state.ranks[i]), high = Math.max(data.high[i * r + k], state.ranks[i]);
    return low === high ? String(low) : `${low}–${high}`;
  }
  function places_() { // each model's place at some positions, ties broken by area: for the map of ranks
    const every = Math.max(Math.floor(data.g / 120), 1);
    const at = data.published.map((eps) => CB.nearest(data.grid, eps));
    for (let i = 0; i < data.g; i += every) if (!at.includes(i)) at.push(i);
    at.sort((a, b) => a - b);
    const rows = models.map(() => new Float64Array(at.length));
    at.forEach((p, k) => {
      const order = models.map((_, i) => i).sort((a, b) => data.counts[b * data.g + p] - data.counts[a * data.g + p] || data.area[b][0] - data.area[a][0]);
      order.forEach((i, place) => { rows[i][k] = data.counts[i * data.g + p] ? place + 1 : NaN; });
    });
    return { at, rows };
  }

  // ---- columns: id, heading, value to sort by, cell as [text, small text]
  const share = (f) => [(i) => f(i) ?? -1, (i) => [pct(f(i))]];
  const figure = (f) => [(i) => f(i) ?? -1, (i) => [num(f(i))]];
  const text = (f) => [(i) => f(i) ?? "", (i) => [f(i) || "–"]];
  function columns() {
    const found = [
      ["acc", "Robust %", (i) => count(i), (i) => { const k = count(i), ci = CB.interval(k, n); return [pct(k / n), `${pct(ci[0])}–${pct(ci[1])}`, k / n]; }],
      ["clean", "Clean", ...share((i) => models[i].clean?.[0])],
      ["cert", `Cert. ${num(data.published[0])}`, ...share((i) => data.certified[i][0])],
      ["area", "Area", ...figure((i) => data.area[i][0])],
      ["clever", "CLEVER", ...figure((i) => data.clever[i])],
    ];
    data.published.forEach((eps, k) => {
      const at = CB.nearest(data.grid, eps);
      found.push([`p${k}`, `ε ${num(eps)}`, (i) => data.counts[i * data.g + at], (i) => {
        const c = data.counts[i * data.g + at], ci = CB.interval(c, n);
        return [pct(c / n), `${pct(ci[0])}–${pct(ci[1])}`];
      }]);
    });
    found.push(
      ["median", "Median", ...figure((i) => data.median[i] ?? Infinity)], ["decided", "Decided %", ...share((i) => data.decided[i])],
      ["method", "Training", ...text((i) => models[i].method)], ["threat", "Trained for", ...text((i) => models[i].threat)],
      ["arch", "Architecture", ...text((i) => models[i].arch)], ["year", "Year", ...text((i) => models[i].year)], ["venue", "Venue", ...text((i) => models[i].venue)],
      ["extra", "Extra data", ...text((i) => models[i].extra ? "yes" : "no")], ["size", "Parameters", ...figure((i) => models[i].size)],
      ["authors", "Authors", ...text((i) => models[i].authors)],
    );
    return found;
  }
  const DEFAULT = innerWidth < 640 ? ["acc"] : ["acc", "clean", "cert", "area", "clever"];
  const shownColumns = () => { const ids = state.cols ?? DEFAULT; return columns().filter(([id]) => ids.includes(id)); };

  // ---- which rows, in which order
  function chosen() {
    const q = state.q.toLowerCase();
    return models.map((_, i) => i).filter((i) => {
      const m = models[i];
      if (q && !`${m.title} ${m.slug} ${m.authors} ${m.arch} ${m.method} ${m.venue} ${m.year}`.toLowerCase().includes(q)) return false;
      return FILTERS.every(([id, , value]) => !state.filters[id] || value(m) === state.filters[id]);
    });
  }
  function sorted(rows) {
    const tie = (a, b) => state.ranks[a] - state.ranks[b] || data.area[b][0] - data.area[a][0] || (models[a].slug < models[b].slug ? -1 : 1);
    const sign = state.down ? -1 : 1;
    if (state.sort === "rank") return rows.sort((a, b) => sign * tie(a, b));
    const key = state.sort === "model" ? (i) => models[i].title.toLowerCase() : columns().find(([id]) => id === state.sort)?.[2];
    if (!key) return rows.sort(tie);
    return rows.sort((a, b) => { const x = key(a), y = key(b); return x < y ? -sign : x > y ? sign : tie(a, b); });
  }

  // ---- the table: its rows are slots that are filled anew; while ε moves only those in view are
  let slots = [], visible = [], late = 0, rows = [];
  function buildTable() {
    const head = el("tr");
    const basis = `${reference.symbol} ${num(reference.published[0])}`;
    const add = (id, title, label) => {
      const th = el("th", { scope: "col", "data-id": id });
      const button = el("button", { type: "button" }, title);
      if (label) button.setAttribute("aria-label", label);
      button.addEventListener("click", () => {
        const first = !["rank", "model", "method", "threat", "arch", "venue", "authors", "extra"].includes(id);
        state.down = state.sort === id ? !state.down : first;
        state.sort = id; state.page = 1;
        update(); write();
      });
      th.append(button);
      head.append(th);
    };
    const pick = el("th", { scope: "col" });
    pick.append(el("span", { class: "sr" }, "Select"));
    head.append(pick);
    add("rank", "Rank");
    table.tHead.title = `Arrows: change of rank against ${basis}`;
    add("model", "Model");
    for (const [id, title] of shownColumns()) add(id, title);
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren();
    slots = [];
  }
  function newSlot() {
    const box = el("input", { type: "checkbox" });
    const rank = el("b"), ranks = el("span", { class: "ci" }), delta = el("span", { class: "delta" });
    const badge = el("span"), link = el("a"), flag = el("a", { class: "flag" }), small = el("small");
    const cells = shownColumns().map(([id, , , show]) => {
      const main = el("span"), extra = el("span", { class: "ci" }), td = el("td", {}, main, extra);
      let bar = null;
      if (id === "acc") { bar = el("i"); td.append(el("span", { class: "bar" }, bar)); }
      if (["method", "threat", "arch", "venue", "authors"].includes(id)) td.className = "text";
      return { show, main, extra, bar };
    });
    const tr = el("tr", {}, el("td", {}, box), el("td", { class: "rank" }, rank, " ", delta, ranks), el("th", { scope: "row" }, badge, link, " ", flag, small));
    for (const cell of cells) tr.append(cell.main.parentNode);
    const slot = { tr, box, rank, ranks, delta, badge, link, flag, small, cells, i: -1 };
    box.addEventListener("change", () => select(models[slot.i].slug, box.checked));
    tr.addEventListener("pointerenter", () => heat(slot.i, true));
    tr.addEventListener("pointerleave", () => heat(slot.i, false));
    return slot;
  }
  const set = (node, value) => { if (node.textContent !== value) node.textContent = value; };
  function fill(slot, i) {
    const m = models[i];
    if (slot.i !== i) {
      slot.i = i;
      const letter = letterOf(m.slug);
      slot.badge.className = letter ? `badge ${styleOf(m.slug)}` : "";
      set(slot.badge, letter);
      slot.badge.style.marginRight = letter ? ".3rem" : "";
      set(slot.link, m.title);
      slot.link.href = `models/${m.slug}/index.html`;
      slot.flag.hidden = !m.flags.length;
      set(slot.flag, m.flags.length === 1 ? `⚑ ${m.flags[0]}` : `⚑ ${m.flags.length} warnings`);
      slot.flag.title = m.flags.join(", ");
      if (m.flags.length) slot.flag.href = `models/${m.slug}/index.html#flags`; else slot.flag.removeAttribute("href");
      set(slot.small, [m.arch, m.method, m.year].filter(Boolean).join(" · "));
      slot.box.checked = state.sel.includes(m.slug);
      slot.box.setAttribute("aria-label", `Select ${m.title}`);
      slot.tr.className = `${state.sel.includes(m.slug) ? "on" : ""} ${m.flags.length ? "flagged" : ""}`;
    }
    set(slot.rank, String(state.ranks[i]));
    set(slot.ranks, rankInterval(i));
    const change = baseline[i] - state.ranks[i];
    slot.delta.className = `delta ${change > 0 ? "up" : change < 0 ? "down" : ""}`;
    set(slot.delta, change > 0 ? `▲${change}` : change < 0 ? `▼${-change}` : "");
    for (const { show, main, extra, bar } of slot.cells) {
      const [value, ci, length] = show(i);
      set(main, value);
      set(extra, ci ?? "");
      if (bar) bar.style.width = `${100 * length}%`;
    }
  }
  function fillAll() { for (let k = 0; k < rows.length; k++) fill(slots[k], rows[k]); }
  function update({ moving = false } = {}) {
    state.ranks = ranksAt(data, state.at);
    const all = sorted(visible.slice());
    const pages = Math.max(Math.ceil(all.length / PAGE), 1);
    state.page = Math.min(state.page, pages);
    rows = all.slice((state.page - 1) * PAGE, state.page * PAGE);
    const body = table.tBodies[0];
    while (slots.length < rows.length) { const slot = newSlot(); slots.push(slot); body.append(slot.tr); }
    while (slots.length > rows.length) slots.pop().tr.remove();
    clearTimeout(late);
    if (moving && rows.length > 40) {
      const box = body.getBoundingClientRect(), height = box.height / rows.length || 40;
      const first = Math.max(Math.floor(-box.top / height) - 4, 0), last = Math.ceil((innerHeight - box.top) / height) + 4;
      for (let k = first; k < Math.min(last, rows.length); k++) fill(slots[k], rows[k]);
      late = setTimeout(fillAll, 140);
    } else fillAll();
    if (moving) return;
    for (const th of table.tHead.rows[0].cells) {
      if (th.dataset.id === state.sort) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    caption();
    set($("shown"), all.length === models.length ? `${models.length} models` : `${all.length} of ${models.length} models`);
    pager(pages);
  }
  const epsText = () => state.norm === "union" ? `${num(data.grid[state.at], 4)} × the reference budgets` : `${data.symbol} ≤ ${num(data.grid[state.at], 4)}`;
  function caption() { set(table.caption, `At ${epsText()}, in %; small: 95 % intervals; ▲▼: ranks against ${reference.symbol} ${num(reference.published[0])}. Headings sort.`); }
  function pager(pages) {
    const home = $("pager");
    home.hidden = pages < 2;
    if (pages < 2) return;
    const list = el("ul");
    for (let p = 1; p <= pages; p++) {
      const button = el("button", { type: "button", "aria-label": `Page ${p}`, "aria-current": p === state.page ? "page" : null }, String(p));
      button.addEventListener("click", () => { state.page = p; update(); write(); table.scrollIntoView(); });
      list.append(el("li", {}, button));
    }
    home.replaceChildren(list);
  }

  // ---- charts
  function letterOf(slug) {
    const known = models[index.get(slug)].letter;
    if (known) return known;
    const place = state.sel.filter((s) => !models[index.get(s)].letter).indexOf(slug);
    return place < 0 ? "" : EXTRA[place];
  }
  function styleOf(slug) {
    const place = highlighted.indexOf(slug);
    if (place >= 0) return `s${place}`;
    const extra = state.sel.filter((s) => !highlighted.includes(s)).indexOf(slug);
    return extra < 0 ? "faint" : `s${extra} dash`;
  }
  function charts() {
    const { grid, g, published } = data, xMax = grid[g - 1], xs = grid.map((x) => x / xMax);
    const front = (i) => letterOf(models[i].slug) !== "";
    const reference_ = CB.nearest(grid, published[0]);
    const order = visible.slice().sort((a, b) => data.counts[b * g + reference_] - data.counts[a * g + reference_]);
    const drawn = [...order.filter((i) => !front(i)).slice(0, PAGE).reverse(), ...order.filter(front).reverse()];
    const lettered = drawn.filter(front);
    const lines = drawn.map((i) => {
      const ys = Array.from({ length: g }, (_, k) => 1 - data.counts[i * g + k] / n);
      const line = { cls: front(i) ? `${styleOf(models[i].slug)} thick` : "faint", key: models[i].slug, xs, ys, step: true, badge: letterOf(models[i].slug), at: [] };
      if (front(i)) {
        const level = (1 - ys[0]) * (0.86 - 0.66 * lettered.indexOf(i) / Math.max(lettered.length - 1, 1));
        const k = ys.findIndex((y) => 1 - y <= level);
        if (k >= 0) line.at = [[xs[k], ys[k]]];
      }
      return line;
    });
    const first = CB.draw($("curves"), { css: "board curves", label: `Robustness curves in ${data.symbol} of ${visible.length} models`, yLabel: "robust accuracy", xLabel: data.label, xMax, xTicks: data.ticks, yTicks: CB.percentTicks, marks: published, lines });
    const top = Math.min(models.length, TOP);
    const where = (place) => (place - 0.5) / top;
    const rankLines = drawn.map((i) => {
      const own = places.rows[i], inside = [...own.keys()].filter((k) => own[k] <= top);
      const line = { cls: front(i) ? `${styleOf(models[i].slug)} thick` : "faint", key: models[i].slug, xs: places.at.map((p) => xs[p]), ys: [...own].map((p) => Number.isNaN(p) ? null : where(p)), step: false, badge: letterOf(models[i].slug), at: [] };
      if (front(i) && inside.length) line.at = [inside[0], inside.at(-1)].map((k) => [xs[places.at[k]], where(own[k])]);
      return line;
    });
    const found = crossings(drawn, top), told = found.length > MARKED ? crossings(lettered, top) : found;
    const crossed = told.map(([k, share, place, a, b]) => {
      const x = xs[places.at[k]] + share * (xs[places.at[k + 1]] - xs[places.at[k]]);
      return [x, where(place), front(a) && front(b) ? `${models[a].title} overtakes ${models[b].title} near ε = ${num(x * xMax)}` : ""];
    });
    const second = CB.draw($("ranks"), { css: "board ranks", label: `Ranks in ${data.symbol} against ε`, yLabel: "rank", xLabel: data.label, xMax, xTicks: data.ticks, yTicks: Array.from({ length: top }, (_, k) => [where(k + 1), String(k + 1)]), marks: data.turns, lines: rankLines, crossings: crossed });
    plots = [first, second].map((plot) => {
      const cursor = el("div", { class: "cursor" });
      plot.append(el("div", { class: "cursorbox" }, cursor));
      plot.classList.add("hit");
      plot.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        plot.setPointerCapture(event.pointerId);
        const follow = (e) => { const box = plot.getBoundingClientRect(); move(CB.nearest(grid, (e.clientX - box.left) / box.width * xMax)); };
        follow(event);
        plot.onpointermove = follow;
        plot.onpointerup = plot.onpointercancel = () => { plot.onpointermove = null; settle(); };
      });
      return { plot, cursor };
    });
    cursor();
  }
  // Where lines of the map of ranks cross: [position before, share of the way to the next, place, who is ahead then, who behind].
  function crossings(rows, top) {
    const found = [];
    for (const a of rows) for (const b of rows) {
      const p = places.rows[a], q = places.rows[b];
      for (let k = 0; k + 1 < p.length; k++) {
        const before = p[k] - q[k], after = p[k + 1] - q[k + 1];
        if (!(before > 0 && after < 0)) continue;
        const share = before / (before - after), place = p[k] + share * (p[k + 1] - p[k]);
        if (place <= top + 0.5) found.push([k, share, place, a, b]);
      }
    }
    return found;
  }
  function cursor() { for (const { cursor: c } of plots) c.style.transform = `translateX(${100 * data.grid[state.at] / data.grid[data.g - 1]}%)`; }
  function heat(i, on) {
    if (i < 0) return;
    for (const { plot } of plots) for (const line of plot.querySelectorAll(`path[data-k="${CSS.escape(models[i].slug)}"]`)) line.classList.toggle("hotline", on);
  }

  // ---- ε
  let frame = 0;
  function move(at, { from } = {}) {
    state.at = Math.min(Math.max(at, 0), data.g - 1);
    if (from !== "slider") $("eps").value = String(state.at);
    if (from !== "number") $("epsnumber").value = String(data.grid[state.at]);
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; cursor(); update({ moving: true }); marks(); });
  }
  function settle() { $("eps").setAttribute("aria-valuetext", `ε = ${data.grid[state.at]}`); update(); write(); }
  function marks() { for (const button of $("marks").children) button.setAttribute("aria-pressed", String(Number(button.dataset.at) === state.at)); }
  function sweep() {
    const button = $("sweep");
    if (button.getAttribute("aria-pressed") === "true") { button.setAttribute("aria-pressed", "false"); return; }
    button.setAttribute("aria-pressed", "true");
    set(button, "■ Stop");
    const begin = performance.now(), from = state.at >= data.g - 2 ? 0 : state.at, seconds = 9 * (1 - from / data.g);
    const tick = (now) => {
      const done = Math.min((now - begin) / 1000 / seconds, 1);
      move(Math.round(from + done * (data.g - 1 - from)));
      if (done < 1 && button.getAttribute("aria-pressed") === "true") requestAnimationFrame(tick);
      else { button.setAttribute("aria-pressed", "false"); set(button, "▶ Sweep"); settle(); }
    };
    requestAnimationFrame(tick);
  }

  // ---- selection, filters, columns
  function select(slug, on) {
    state.sel = on ? [...state.sel.filter((s) => s !== slug), slug].slice(-MOST) : state.sel.filter((s) => s !== slug);
    for (const slot of slots) slot.i = -1;
    charts(); update(); compareLink(); write();
  }
  function compareLink() {
    const link = $("compare"), k = state.sel.length;
    set(link, k ? `Compare ${k}` : "Compare");
    link.href = k ? `compare.html?models=${state.sel.map(encodeURIComponent).join(",")}&norm=${state.norm}` : "compare.html";
  }
  function filterMenu() {
    const menu = $("filtermenu");
    menu.replaceChildren();
    for (const [id, title, value] of FILTERS) {
      const values = [...new Set(models.map(value))].filter(Boolean).sort();
      if (values.length < 2) continue;
      const box = el("select", { id: `filter-${id}` }, el("option", { value: "" }, "any"), ...values.map((v) => el("option", { value: v }, v)));
      box.value = values.includes(state.filters[id]) ? state.filters[id] : "";
      box.addEventListener("change", () => { state.filters[id] = box.value; refilter(); });
      menu.append(el("label", {}, title, box));
    }
    const clear = el("button", { type: "button" }, "Clear");
    clear.addEventListener("click", () => { for (const [id] of FILTERS) state.filters[id] = ""; filterMenu(); refilter(); });
    menu.append(clear);
  }
  function refilter() {
    visible = chosen();
    state.page = 1;
    const active = Object.values(state.filters).filter(Boolean).length;
    set($("filters").querySelector("summary"), active ? `Filter (${active})` : "Filter");
    charts(); update(); write();
  }
  function columnMenu() {
    const ids = state.cols ?? DEFAULT;
    $("columnmenu").replaceChildren(...columns().map(([id, title]) => {
      const box = el("input", { type: "checkbox", value: id });
      box.checked = ids.includes(id);
      box.addEventListener("change", () => {
        const now = [...$("columnmenu").querySelectorAll("input:checked")].map((b) => b.value);
        state.cols = now.join() === DEFAULT.join() ? null : now;
        buildTable(); update(); write();
      });
      return el("label", { class: "tick" }, box, title);
    }));
  }

  // ---- a norm
  async function show(name, { push = false } = {}) {
    data = await CB.norm(name);
    state.norm = name;
    data.turns ??= data.reigns.slice(1).map((r) => r[3]);
    state.at = CB.nearest(data.grid, state.eps ?? data.published[0]);
    state.eps = null;
    places = places_();
    visible = chosen();
    for (const link of board.querySelectorAll(".tabs a")) {
      if (link.dataset.norm === name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    for (const part of ["curves", "ranks"]) set($(part).closest("figure").querySelector("strong"), `${part === "ranks" ? "Ranks" : "Robustness curves"} in ${data.symbol}`);
    $("eps").max = String(data.g - 1);
    $("epsnumber").max = String(data.grid[data.g - 1]);
    $("marks").replaceChildren(...data.published.map((eps) => {
      const at = CB.nearest(data.grid, eps);
      const button = el("button", { type: "button", "data-at": at, "aria-label": `published budget ${num(eps)}` }, num(eps));
      button.addEventListener("click", () => { move(at); settle(); });
      return button;
    }));
    words();
    lettered();
    buildTable(); columnMenu(); charts(); move(state.at); update(); marks(); compareLink();
    if (push) write(true);
  }
  function lettered() { // the charts as a table, as the server makes it
    const own = highlighted.map((slug) => index.get(slug));
    const line = (tag, cells) => el("tr", {}, ...cells.map((cell, k) => k && tag === "td" ? el("td", {}, cell) : el("th", { scope: tag === "th" ? "col" : "row" }, cell)));
    const rows = [...new Set([...data.ticks, ...data.published])].sort((a, b) => a - b).map((eps) => {
      const at = CB.nearest(data.grid, eps), ranks = ranksAt(data, at);
      return line("td", [num(eps), ...own.map((i) => `${pct(data.counts[i * data.g + at] / n)} (${ranks[i]})`)]);
    });
    $("lettered").tHead.replaceChildren(line("th", ["ε", ...own.map((i) => `${models[i].letter}: ${models[i].title}`)]));
    $("lettered").tBodies[0].replaceChildren(...rows);
  }
  function words() {
    const parts = [`In ${data.symbol}, `];
    data.reigns.forEach(([letter, title, place], k) => {
      if (letter) parts.push(el("span", { class: `badge s${"ABCDEFGH".indexOf(letter)}` }, letter), " ");
      parts.push(el("b", {}, title), ` leads ${place}${k === data.reigns.length - 1 ? "." : "; "}`);
    });
    $("reigns").replaceChildren(...parts);
    const end = data.grid[data.g - 1], strip = $("strip");
    strip.setAttribute("aria-label", `Who leads in ${data.symbol}: ${data.reigns.map(([, title, place]) => `${title} ${place}`).join("; ")}`);
    strip.replaceChildren(...data.leads.map(([from, to, letter, style, title, clear]) => el("span", {
      class: clear ? style : `${style} open`, style: `left:${100 * from / end}%;width:${100 * (to - from) / end}%`,
      title: `${title}, ${num(from)} to ${num(to)}${clear ? "" : ": not clearly ahead"}`,
    }, to - from > 0.035 * end ? letter : "")));
  }

  // ---- begin
  read();
  for (const node of document.querySelectorAll("main .js")) if (node.id !== "pager") node.hidden = false;
  for (const pager_ of board.querySelectorAll(".pager:not(.js)")) pager_.hidden = true;
  $("search").value = state.q;
  filterMenu();
  await show(state.norm);
  if (Object.values(state.filters).some(Boolean) || state.q) { const page = state.page; refilter(); state.page = page; update(); }
  $("eps").addEventListener("input", () => move(Number($("eps").value), { from: "slider" }));
  $("eps").addEventListener("change", settle);
  $("epsnumber").addEventListener("change", () => { move(CB.nearest(data.grid, Number($("epsnumber").value))); settle(); });
  $("sweep").addEventListener("click", sweep);
  $("search").addEventListener("input", () => { state.q = $("search").value; refilter(); });
  for (const link of board.querySelectorAll(".tabs a")) {
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      show(link.dataset.norm, { push: true });
    });
  }
  addEventListener("popstate", async () => { read(); $("search").value = state.q; filterMenu(); await show(state.norm); });
  for (const menu of board.querySelectorAll(".tools details")) {
    menu.addEventListener("keydown", (event) => { if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); } });
  }
  addEventListener("pointerdown", (event) => { for (const menu of board.querySelectorAll(".tools details[open]")) if (!menu.contains(event.target)) menu.open = false; });
  board.dataset.ready = "";
});
