// The board: ε moves, and with it the line on both charts, the robust accuracies and the ranks. Every state is in the URL.
"use strict";
(async () => { // the last script of the page, or, of a large board, of those that board-later.js loads
  const home = document.getElementById("board");
  if (!home || !document.getElementById("table") || !CB.allModels()) return;
  const { n, highlighted, models, symbols, basis } = CB.allModels();
  const { el, num } = CB;
  const names = Object.keys(symbols);
  const $ = (id) => document.getElementById(id);
  const MOST = 6, EXTRA = "IJKLMN";
  const index = new Map(models.map((m, i) => [m.slug, i]));
  const board = { PAGE: 25, state: null, data: null, visible: [], baseline: new Map(models.map((m, i) => [m.slug, basis.ranks[i]])), basis: basis.place, update, write, select, letterOf, styleOf, move, settle, titleOf: (slug) => models[index.get(slug)].title };
  const table = CB.boardTable(board), charts = CB.boardCharts(board);
  CB.boardTake(board);
  const field = CB.boardField(board), records = CB.boardRecords(board);
  board.charts = charts;
  let state;

  // ---- state and address
  const FILTERS = [
    ["arch", "Architecture", (m) => m.arch], ["method", "Training", (m) => m.method],
    ["venue", "Venue", (m) => m.venue], ["extra", "Extra data", (m) => m.extra ? "yes" : "no"],
    ["flags", "Warnings", (m) => m.flags.length ? "with warnings" : "without warnings"],
  ];
  // Filters of a range: "from..to", either end may be open. A row without the value is in no range.
  const RANGES = [["year", "Year", (m) => m.year], ["size", "Parameters", (m) => m.size], ["unharmed", "At ε = 0, %", (m) => m.unharmed === null ? null : 100 * m.unharmed]];
  const ends = (text) => text.split("..").map((end) => end === "" || end === undefined ? null : Number(end));
  function within(value, text) {
    const [low = null, high = null] = ends(text);
    return value != null && (low === null || value >= low) && (high === null || value <= high);
  }
  function read() {
    const p = new URLSearchParams(location.search);
    const wanted = p.get("norm"), eps = p.get("eps");
    state = board.state = {
      norm: names.includes(wanted) ? wanted : home.dataset.threat, eps: eps !== null && Number.isFinite(Number(eps)) ? Number(eps) : null,
      sort: p.get("sort") ?? "rank", down: p.get("dir") === "desc", q: p.get("q") ?? "", page: Math.max(Number(p.get("page")) || 1, 1), at: 0, ranks: null,
      hidden: new Set((p.get("hide") ?? "").split(",").filter((s) => s === "*" || index.has(s))), wanted: p.get("view"), view: null, against: p.get("against") ?? "accuracy",
      cols: p.has("cols") ? p.get("cols").split(",").filter(Boolean) : null, sel: (p.get("sel") ?? "").split(",").filter((s) => index.has(s)).slice(0, MOST),
      filters: Object.fromEntries(FILTERS.map(([id]) => [id, p.getAll(id)])), ranges: Object.fromEntries(RANGES.map(([id]) => [id, p.get(id) ?? ""])),
    };
  }
  // What is seen of the curves, as "from..to" in ε and in robust accuracy.
  const seenAt = ([left, right, top, bottom]) => { const end = board.data.grid.at(-1); return [[left * end, right * end], [1 - bottom, 1 - top]].map((range) => range.map((v) => num(v, 4)).join("..")).join(","); };
  function viewOf(text) {
    const [across, down] = (text ?? "").split(",").map(ends), end = board.data.grid.at(-1);
    return across?.length === 2 && down?.length === 2 && [...across, ...down].every(Number.isFinite) ? [across[0] / end, across[1] / end, 1 - down[1], 1 - down[0]] : null;
  }
  let writing = 0;
  function write(push = false) {
    clearTimeout(writing);
    const put = () => {
      const p = new URLSearchParams(), { data } = board;
      if (state.norm !== home.dataset.threat) p.set("norm", state.norm);
      if (state.at !== CB.nearest(data.grid, data.published[0])) p.set("eps", String(data.grid[state.at]));
      if (state.sort !== "rank") p.set("sort", state.sort);
      if (state.down) p.set("dir", "desc");
      if (state.q) p.set("q", state.q);
      for (const [id, values] of Object.entries(state.filters)) for (const value of values) p.append(id, value);
      for (const [id, range] of Object.entries(state.ranges)) if (range) p.set(id, range);
      if (state.cols) p.set("cols", state.cols.join(","));
      if (state.sel.length) p.set("sel", state.sel.join(","));
      if (state.against !== "accuracy") p.set("against", state.against);
      if (state.hidden.size) p.set("hide", [...state.hidden].join(","));
      if (state.view) p.set("view", seenAt(state.view));
      if (state.page > 1) p.set("page", String(state.page));
      const query = p.toString();
      history[push ? "pushState" : "replaceState"](null, "", query ? `?${query}` : location.pathname);
    };
    if (push) put(); else writing = setTimeout(put, 200);
  }

  // ---- ranks: 1 + the models that are strictly better; 0 where every model is broken
  const better = new Int32Array(n + 2); // of each count: the models that have more
  function ranksAt(d, at) {
    better.fill(0);
    for (let i = 0, k = at; i < d.m; i++, k += d.g) better[d.counts[k]]++;
    for (let count = n, above = 0; count >= 0; count--) { const own = better[count]; better[count] = above; above += own; }
    const ranks = new Int32Array(d.m);
    if (better[0] > 0) for (let i = 0, k = at; i < d.m; i++, k += d.g) ranks[i] = 1 + better[d.counts[k]];
    return ranks;
  }
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

  // ---- which rows
  function chosen() {
    const q = state.q.toLowerCase();
    return board.data.slugs.map((_, i) => i).filter((i) => {
      const m = table.of(i);
      if (q && !`${m.title} ${m.slug} ${m.authors} ${m.arch} ${m.method} ${m.venue} ${m.year}`.toLowerCase().includes(q)) return false;
      return FILTERS.every(([id, , value]) => !state.filters[id].length || state.filters[id].includes(value(m)))
        && RANGES.every(([id, , value]) => !state.ranges[id] || within(value(m), state.ranges[id]));
    });
  }
  const set = (node, value) => { if (node.textContent !== value) node.textContent = value; };
  // While ε moves, only what is in view is drawn; the rest when it rests, or is scrolled to.
  const inView = new Map([["field", true], ["records", true]]);
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) inView.set(target.id, isIntersecting);
    if (state.ranks) for (const { target, isIntersecting } of entries) if (isIntersecting) (target.id === "field" ? field : records).update();
  }, { rootMargin: "100px" });
  function update({ moving = false } = {}) {
    const { data, visible } = board;
    state.ranks = ranksAt(data, state.at);
    const seen = table.seen(moving); // measured before anything is written, so that nothing is laid out twice
    if (!moving || inView.get("field")) field.update();
    if (!moving || inView.get("records")) records.update(moving);
    const pages = table.update(visible, seen);
    if (moving) return;
    const eps = num(data.grid[state.at], 4), total = data.slugs.length;
    const place = state.norm === "union" ? `${eps} × the reference budgets` : `${data.symbol} ≤ ${eps}`;
    table.caption(`At ${place}, in %; small: 95 % intervals; ▲▼: ranks against ${board.basis}. Headings sort.`);
    set($("shown"), visible.length === total ? `${total} model${total === 1 ? "" : "s"}` : `${visible.length} of ${total} models`);
    $("filtered").hidden = visible.length === total;
    pager(pages);
  }
  function pager(pages) {
    const home = $("pager");
    home.hidden = pages < 2;
    if (pages < 2) return;
    const list = el("ul");
    let last = 0;
    for (let p = 1; p <= pages; p++) { // as near_pages of pages/board.py
      if (p > 1 && p < pages && Math.abs(p - state.page) > 2) continue;
      if (p > last + 1) list.append(el("li", {}, "…"));
      last = p;
      const button = el("button", { type: "button", "aria-label": `Page ${p}`, "aria-current": p === state.page ? "page" : null }, String(p));
      button.addEventListener("click", () => { state.page = p; update(); write(); table.top(); });
      list.append(el("li", {}, button));
    }
    home.replaceChildren(list);
  }

  // ---- ε
  let frame = 0;
  function move(at, { from } = {}) {
    const { data } = board;
    state.at = Math.min(Math.max(at, 0), data.g - 1);
    if (from !== "slider") $("eps").value = String(state.at);
    if (from !== "number") $("epsnumber").value = String(data.grid[state.at]);
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; update({ moving: true }); charts.cursor(); marks(); });
  }
  function settle() { $("eps").setAttribute("aria-valuetext", `ε = ${board.data.grid[state.at]}`); update(); write(); }
  function marks() { for (const button of $("marks").children) button.setAttribute("aria-pressed", String(Number(button.dataset.at) === state.at)); }
  function typed() { // an empty or unreadable field keeps ε
    const value = $("epsnumber").valueAsNumber;
    move(Number.isFinite(value) ? CB.nearest(board.data.grid, value) : state.at);
    settle();
  }
  function sweep() {
    const button = $("sweep"), { g, whole } = board.data;
    if (button.getAttribute("aria-pressed") === "true") { button.setAttribute("aria-pressed", "false"); return; }
    button.setAttribute("aria-pressed", "true");
    set(button, "■ Stop");
    const begin = performance.now(), from = state.at >= g - (whole ? 1 : 2) ? 0 : state.at, seconds = 9 * (1 - from / g);
    const tick = (now) => {
      const done = Math.min((now - begin) / 1000 / seconds, 1);
      move(Math.round(from + done * (g - 1 - from)));
      if (done < 1 && button.getAttribute("aria-pressed") === "true") requestAnimationFrame(tick);
      else { button.setAttribute("aria-pressed", "false"); set(button, "▶ Sweep"); settle(); }
    };
    requestAnimationFrame(tick);
  }

  // ---- selection, filters, columns
  function select(slug, on) {
    state.sel = on ? [...state.sel.filter((s) => s !== slug), slug].slice(-MOST) : state.sel.filter((s) => s !== slug);
    table.forget();
    charts.refresh(); update(); compareLink(); write();
  }
  function compareLink() {
    const link = $("compare"), k = state.sel.length;
    set(link, k ? `Compare ${k}` : "Compare");
    link.classList.toggle("floating", k > 1);
    link.href = k ? `compare.html?models=${state.sel.map(encodeURIComponent).join(",")}&norm=${state.norm}` : "compare.html";
  }
  function filterMenu() {
    const menu = $("filtermenu");
    menu.replaceChildren();
    for (const [id, title, value] of FILTERS) {
      const values = [...new Set(models.map(value))].filter(Boolean).sort();
      if (values.length < 2) continue;
      const box = el("select", { id: `filter-${id}`, multiple: "", size: String(Math.min(values.length, 4)), title: "Several with Ctrl or ⌘" }, ...values.map((v) => el("option", { value: v }, v)));
      for (const option of box.options) option.selected = state.filters[id].includes(option.value);
      box.addEventListener("change", () => { state.filters[id] = [...box.selectedOptions].map((option) => option.value); refilter(); });
      menu.append(el("label", {}, title, box));
    }
    for (const [id, title, value] of RANGES) {
      const known = models.map(value).filter((v) => v != null);
      if (Math.min(...known) === Math.max(...known) || !known.length) continue;
      const given = ends(state.ranges[id]);
      const boxes = ["from", "to"].map((name, k) => el("input", { type: "number", step: "any", id: `filter-${id}-${name}`, "aria-label": `${title}, ${name}`, placeholder: num(k ? Math.max(...known) : Math.min(...known), 4), value: given[k] ?? null }));
      for (const box of boxes) box.addEventListener("change", () => { const [low, high] = boxes.map((b) => b.value); state.ranges[id] = low || high ? `${low}..${high}` : ""; refilter(); });
      menu.append(el("div", { class: "range" }, title, el("span", {}, boxes[0], " to ", boxes[1])));
    }
    const clear = el("button", { type: "button" }, "Clear");
    clear.addEventListener("click", () => { for (const [id] of FILTERS) state.filters[id] = []; for (const [id] of RANGES) state.ranges[id] = ""; filterMenu(); refilter(); });
    menu.append(clear);
  }
  const filters = () => Object.values(state.filters).filter((values) => values.length).length + Object.values(state.ranges).filter(Boolean).length;
  function refilter() {
    board.visible = chosen();
    state.page = 1;
    const active = filters();
    set($("filters").querySelector("summary"), active ? `Filter (${active})` : "Filter");
    charts.refresh(); update(); write();
  }
  function columnMenu() {
    const ids = state.cols ?? table.standard;
    $("columnmenu").replaceChildren(...table.columns().map(([id, title, help]) => {
      const box = el("input", { type: "checkbox", value: id });
      box.checked = ids.includes(id);
      box.addEventListener("change", () => {
        const now = [...$("columnmenu").querySelectorAll("input:checked")].map((b) => b.value);
        state.cols = now.join() === table.standard.join() ? null : now;
        table.build(); update(); write();
      });
      return el("label", { class: "tick", title: help || null }, box, title);
    }));
  }

  // ---- a threat
  async function show(name, { push = false } = {}) {
    const data = await CB.threat(name), fresh = board.data ? board.data !== data : name !== home.dataset.threat;
    board.parts = fresh ? await CB.partsOf(name) : null;
    board.data = data;
    state.norm = name;
    state.at = CB.nearest(data.grid, state.eps ?? data.published[0]);
    state.eps = null;
    board.visible = chosen();
    for (const link of home.querySelectorAll(".tabs a")) {
      if (link.dataset.threat === name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    $("eps").min = "0";
    $("eps").max = String(data.g - 1);
    Object.assign($("epsnumber"), { max: String(data.grid[data.g - 1]), step: data.whole ? "1" : "any" });
    $("marks").replaceChildren(...data.published.map((eps) => {
      const at = CB.nearest(data.grid, eps);
      const button = el("button", { type: "button", "data-at": at, "aria-label": `marked budget ${num(eps)}` }, num(eps));
      button.addEventListener("click", () => { move(at); settle(); });
      return button;
    }));
    if (fresh || !board.shown) { charts.show(fresh); field.show(fresh); records.show(fresh); }
    if (fresh) {
      const place = name === "union" ? `${data.published[0]} × the reference budgets` : `${data.symbol} ≤ ${data.published[0]}`;
      set($("fieldtitle"), `Clean against robust accuracy at ${place}`);
      set($("recordstitle"), `State of the art at ${place}`);
    }
    board.shown = true;
    table.build(); columnMenu(); charts.refresh(); move(state.at); update(); marks(); compareLink();
    if (table.fit()) columnMenu();
    charts.look(viewOf(state.wanted));
    state.wanted = null;
    if (push) write(true);
  }

  // ---- begin
  read();
  // What a reader has set of a large board while its data were on their way.
  if ($("search").value && !state.q) state.q = $("search").value;
  const moved = ["eps", "epsnumber"].find((id) => $(id).value !== $(id).defaultValue);
  if (moved && state.eps === null && state.norm === home.dataset.threat) state.eps = moved === "eps" ? (await CB.threat(state.norm)).grid[Number($("eps").value)] : Number($("epsnumber").value);
  for (const node of document.querySelectorAll("main .js")) if (!["pager", "filtered", "readout", "fieldlacking"].includes(node.id)) node.hidden = false;
  for (const pager_ of home.querySelectorAll(".pager:not(.js)")) pager_.hidden = true;
  $("search").value = state.q;
  filterMenu();
  await show(state.norm);
  if (filters() || state.q) { const page = state.page; refilter(); state.page = page; update(); }
  $("eps").addEventListener("input", () => move(Number($("eps").value), { from: "slider" }));
  $("eps").addEventListener("change", settle);
  $("epsnumber").addEventListener("change", typed);
  $("sweep").addEventListener("click", sweep);
  $("search").addEventListener("input", () => { state.q = $("search").value; refilter(); });
  for (const link of home.querySelectorAll(".tabs a")) {
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      show(link.dataset.threat, { push: true });
    });
  }
  addEventListener("popstate", async () => { read(); $("search").value = state.q; filterMenu(); await show(state.norm); });
  for (const menu of home.querySelectorAll(".tools details")) {
    menu.addEventListener("keydown", (event) => { if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); } });
  }
  addEventListener("pointerdown", (event) => { for (const menu of home.querySelectorAll(".tools details[open]")) if (!menu.contains(event.target)) menu.open = false; });
  for (const id of inView.keys()) watcher.observe($(id));
  home.dataset.ready = "";
})();
