// The board's table: its columns, and rows that are slots filled anew; while ε moves only those in view are.
"use strict";
window.CB.boardTable = (board) => {
  const { el, pct, num } = CB;
  const { n, models, columns: declared } = CB.allModels();
  const table = document.getElementById("table");
  const TEXTS = ["method", "threat", "arch", "venue", "authors", "extra", "paper"];
  const byslug = new Map(models.map((m) => [m.slug, m]));
  const of = (i) => byslug.get(board.data.slugs[i]);
  let slots = [], rows = [], late = 0;

  // Columns: id, heading, what it is, value to sort by (null comes last), cell as [text, small text, length of the bar].
  const count = (i, at = board.state.at) => board.data.counts[i * board.data.g + at];
  const robust = (i, at) => { const k = count(i, at), ci = CB.interval(k, n); return [pct(k / n), `${pct(ci[0])}–${pct(ci[1])}`, k / n]; };
  const share = (f) => [(i) => f(i) ?? null, (i) => [pct(f(i))]];
  const figure = (f) => [(i) => f(i) ?? null, (i) => [num(f(i))]];
  const amount = (f) => [(i) => f(i) ?? null, (i) => [short(f(i))]];
  const short = (value) => { // 35.1 M
    const [size, unit] = value >= 1e9 ? [1e9, "\u202fG"] : value >= 1e6 ? [1e6, "\u202fM"] : value >= 1e4 ? [1e3, "\u202fk"] : [1, ""];
    return value == null ? "–" : num(value / size) + unit;
  };
  const text = (f) => [(i) => f(i) ?? "", (i) => [f(i) || "–"]];
  function columns() {
    const { data } = board;
    const found = [ // a last entry: where the glossary explains it
      ["acc", "Robust %", "Robust accuracy at the slider's ε: images that no attack within ε has broken. Higher is better.", (i) => count(i), (i) => robust(i), "robust-accuracy"],
      ["cert", "Certified", `Images proven robust at ε = ${num(data.published[0])}. Higher is better.`, ...share((i) => data.certified[i][0]), "certified-accuracy"],
      ["area", "Area", "Area under the curve, up to the end of the axis: the mean of min(distance, end). Higher is better.", ...figure((i) => data.area[i]), "area-under-the-curve"],
    ];
    for (const c of declared) if (data.cells[c.id]) {
      const cells = data.cells[c.id];
      found.push([c.id, c.title, c.help, (i) => cells[i][2], (i) => cells[i], c.term]);
    }
    data.published.forEach((eps, k) => {
      const at = CB.nearest(data.grid, eps);
      found.push([`p${k}`, `ε ${num(eps)}`, `Robust accuracy at ε = ${num(eps)}. Higher is better.`, (i) => count(i, at), (i) => robust(i, at).slice(0, 2), "robust-accuracy"]);
    });
    found.push(
      ["median", "Median", "The ε at which half of the images are broken.", ...figure((i) => data.median[i] ?? Infinity), "median-distance"],
      ["decided", "Decided %", "How much of the curve is settled between proof and attack.", ...share((i) => data.decided[i]), "decided"],
      ["unharmed", "At ε = 0", "Images that are classified correctly without any attack.", ...share((i) => of(i).unharmed), "clean-accuracy"],
      ["method", "Training", "", ...text((i) => of(i).method)], ["threat", "Trained for", "", ...text((i) => of(i).threat)],
      ["arch", "Architecture", "", ...text((i) => of(i).arch)], ["year", "Year", "", ...figure4((i) => of(i).year)], ["venue", "Venue", "", ...text((i) => of(i).venue)],
      ["extra", "Extra data", "Whether it was trained on more than the dataset's own images.", ...text((i) => of(i).extra ? "yes" : "no")],
      ["size", "Parameters", "Numbers that training has set.", ...amount((i) => of(i).size)],
      ["flops", "FLOPs", "Floating-point operations of one image's forward pass.", ...amount((i) => of(i).flops), "flops"],
      ["latency", "ms an image", "Milliseconds of a forward pass, an image, in a batch of up to 500, on the machine that evaluated it.", (i) => of(i).latency ?? null, (i) => [of(i).latency == null ? "–" : num(1000 * of(i).latency)]],
      ["seconds", "Hours", "What its evaluations took, in hours of computing.", (i) => of(i).seconds, (i) => [num(of(i).seconds / 3600)]],
      ["passes", "Passes", "Forward and backward passes of its evaluations, in images.", ...amount((i) => of(i).passes), "passes"],
      ["authors", "Authors", "", ...text((i) => of(i).authors)],
    );
    return found;
  }
  function figure4(f) { return [(i) => f(i) ?? null, (i) => [f(i) == null ? "–" : String(f(i))]]; }
  // What is shown unless the reader chooses; `fit` takes away what would have to be scrolled to.
  const standard = innerWidth < 640 ? ["acc"] : ["acc", "cert", "area", ...declared.slice(0, 4).map((c) => c.id)];
  const shown = () => { const ids = board.state.cols ?? standard; return columns().filter(([id]) => ids.includes(id)); };

  // At ε where every model is broken there is no rank.
  function rankInterval(i) {
    const { data, state } = board, k = CB.nearest(data.ranked, data.grid[state.at]), r = data.ranked.length;
    if (!state.ranks[i]) return "";
    const low = Math.min(data.low[i * r + k], state.ranks[i]), high = Math.max(data.high[i * r + k], state.ranks[i]);
    return low === high ? String(low) : `${low}–${high}`;
  }
  // Of each model its place among equals: by the area under its curve, then by name.
  function ties(data) {
    if (data.ties) return data.ties;
    const order = data.slugs.map((_, i) => i).sort((a, b) => data.area[b] - data.area[a] || (data.slugs[a] < data.slugs[b] ? -1 : 1));
    data.ties = new Int32Array(data.m);
    order.forEach((i, k) => { data.ties[i] = k; });
    return data.ties;
  }
  function sorted(found) {
    const { data, state } = board;
    const { ranks } = state, place = ties(data), tie = (a, b) => ranks[a] - ranks[b] || place[a] - place[b];
    const sign = state.down ? -1 : 1;
    if (state.sort === "rank") return found.sort((a, b) => sign * tie(a, b));
    const key = state.sort === "model" ? (i) => of(i).title.toLowerCase() : columns().find(([id]) => id === state.sort)?.[3];
    if (!key) return found.sort(tie);
    return found.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return x === y ? tie(a, b) : x === null ? 1 : -1;
      return x < y ? -sign : x > y ? sign : tie(a, b);
    });
  }

  function build() {
    const head = el("tr"), { state } = board;
    const add = (id, title, help, term) => {
      const th = el("th", { scope: "col", "data-id": id, title: help || null, class: id === "model" ? "name" : null });
      const unit = declared.find((c) => c.id === id)?.unit;
      const button = el("button", { type: "button" }, title, ...(unit && unit !== "distance" ? [" ", el("small", {}, unit)] : []));
      button.addEventListener("click", () => {
        const first = !["rank", "model", ...TEXTS].includes(id) && declared.find((c) => c.id === id)?.direction !== "lower";
        state.down = state.sort === id ? !state.down : first;
        state.sort = id; state.page = 1;
        board.update(); board.write();
      });
      th.append(button);
      if (term) th.append(el("a", { class: "what", href: `../../glossary.html#${term}`, "aria-label": `What ${term.replaceAll("-", " ")} means` }));
      head.append(th);
    };
    head.append(el("th", { scope: "col" }, el("span", { class: "sr" }, "Select")));
    add("rank", "Rank", `Arrows: change of rank against ${board.basis}`, "rank");
    add("model", "Model");
    for (const [id, title, help, , , term] of shown()) add(id, title, help, term);
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren();
    slots = [];
  }
  function newSlot() {
    const box = el("input", { type: "checkbox" });
    const rank = el("b"), ranks = el("span", { class: "ci" }), delta = el("span", { class: "delta" });
    const badge = el("span"), link = el("a"), flag = el("a", { class: "flag" }), small = el("small");
    const cells = shown().map(([id, , , , show]) => {
      const main = el("span"), extra = el("span", { class: "ci" }), td = el("td", {}, main, extra);
      let bar = null;
      if (id === "acc") { bar = el("i"); td.append(el("span", { class: "bar" }, bar)); }
      if (TEXTS.includes(id)) td.className = "text";
      return { show, main, extra, bar };
    });
    const tr = el("tr", {}, el("td", {}, box), el("td", { class: "rank" }, rank, " ", delta, ranks), el("th", { scope: "row" }, badge, link, " ", flag, small));
    for (const cell of cells) tr.append(cell.main.parentNode);
    const slot = { tr, box, rank, ranks, delta, badge, link, flag, small, cells, i: -1 };
    box.addEventListener("change", () => board.select(board.data.slugs[slot.i], box.checked));
    tr.addEventListener("pointerenter", () => board.charts.heat(board.data.slugs[slot.i]));
    tr.addEventListener("pointerleave", () => board.charts.heat(null));
    link.addEventListener("focus", () => board.charts.heat(board.data.slugs[slot.i]));
    link.addEventListener("blur", () => board.charts.heat(null));
    return slot;
  }
  function about(m) { // as the macro `marks` of the page without scripts
    const found = [];
    if (m.paper) found.push(" · ", el("a", { class: "paper", href: m.paper, "aria-label": `Paper of ${m.title}` }, "paper"));
    if (m.code) found.push(" · ", el("a", { class: "code", href: m.code, "aria-label": `Code of ${m.title}`, rel: "nofollow" }, "code"));
    if (m.verified) found.push(" ", el("span", { class: "mark", title: m.verified }, "✓ verified"));
    if (m.reported) found.push(" ", el("span", { class: "mark", title: m.reported }, "reported"));
    return found;
  }
  // Take away standard columns, the last first, until the table fits; whether any was taken.
  function fit() {
    const home = table.parentNode, before = standard.length;
    while (!board.state.cols && standard.length > 2 && home.scrollWidth > home.clientWidth + 1) { standard.pop(); build(); board.update(); }
    return standard.length < before;
  }
  const set = (node, value) => { if (node.textContent !== value) node.textContent = value; };
  function fill(slot, i) {
    const { state, data } = board;
    if (slot.i !== i) {
      const m = of(i), letter = board.letterOf(m.slug), on = state.sel.includes(m.slug);
      slot.i = i;
      slot.badge.className = letter ? `badge ${board.styleOf(m.slug)}` : "";
      set(slot.badge, letter);
      slot.badge.style.marginRight = letter ? ".3rem" : "";
      set(slot.link, m.title);
      slot.link.href = `models/${m.slug}/index.html`;
      slot.flag.hidden = !m.flags.length;
      set(slot.flag, m.flags.length === 1 ? `⚑ ${m.flags[0]}` : `⚑ ${m.flags.length} warnings`);
      slot.flag.title = m.flags.join(", ");
      if (m.flags.length) slot.flag.href = `models/${m.slug}/index.html#flags`; else slot.flag.removeAttribute("href");
      slot.small.replaceChildren([m.arch, m.method, m.year].filter(Boolean).join(" · "), ...about(m));
      slot.box.checked = on;
      slot.box.setAttribute("aria-label", `Select ${m.title}`);
      slot.tr.className = `${on ? "on" : ""} ${m.flags.length ? "flagged" : ""}`;
    }
    const rank = state.ranks[i], before = board.baseline.get(data.slugs[i]) ?? 0, change = rank && before ? before - rank : 0;
    set(slot.rank, rank ? String(rank) : "–");
    set(slot.ranks, rankInterval(i));
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
  // While ε moves: the first and the last row that are in view, or null where all are to be filled.
  function seen(moving) {
    if (!moving || rows.length <= 40) return null;
    const box = table.tBodies[0].getBoundingClientRect(), height = box.height / rows.length || 40;
    return [Math.max(Math.floor(-box.top / height) - 4, 0), Math.ceil((innerHeight - box.top) / height) + 4];
  }
  // Show these models (places in the data); returns the number of pages. part: as `seen` says; the others follow when ε rests.
  function update(visible, part) {
    const { state } = board, body = table.tBodies[0];
    const all = sorted(visible.slice()), pages = Math.max(Math.ceil(all.length / board.PAGE), 1);
    state.page = Math.min(state.page, pages);
    rows = all.slice((state.page - 1) * board.PAGE, state.page * board.PAGE);
    body.querySelector(".empty")?.remove();
    while (slots.length < rows.length) { const slot = newSlot(); slots.push(slot); body.append(slot.tr); }
    while (slots.length > rows.length) slots.pop().tr.remove();
    if (!rows.length) body.append(el("tr", { class: "empty" }, el("td", { colspan: String(table.tHead.rows[0].cells.length) }, "No model fits the search and the filter.")));
    clearTimeout(late);
    if (part) {
      for (let k = part[0]; k < Math.min(part[1], rows.length); k++) fill(slots[k], rows[k]);
      late = setTimeout(fillAll, 140);
      return pages;
    }
    fillAll();
    for (const th of table.tHead.rows[0].cells) {
      if (th.dataset.id === state.sort) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    return pages;
  }
  const forget = () => { for (const slot of slots) slot.i = -1; };
  return { build, update, seen, fit, columns, standard, forget, count, of, caption: (value) => set(table.caption, value), top: () => table.scrollIntoView() };
};
