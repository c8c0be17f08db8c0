// The compare page: any two to six models over each other. The address is a permalink: ?models=a,b&norm=linf.
"use strict";
document.addEventListener("DOMContentLoaded", async () => {
  const tool = document.getElementById("comparetool");
  if (!tool || !CB.allModels()) return;
  const { n, models } = CB.allModels();
  if (models.length < 2) return;
  const { el, pct, num } = CB;
  const $ = (id) => document.getElementById(id);
  const names = tool.dataset.norms.split(" "), MOST = Number(tool.dataset.most), LETTERS = "ABCDEF", RESAMPLES = 300;
  const index = new Map(models.map((m, i) => [m.slug, i]));
  const parameters = new URLSearchParams(location.search);
  let chosen = (parameters.get("models") ?? "").split(",").filter((s) => index.has(s)).slice(0, MOST);
  if (!chosen.length) chosen = CB.allModels().highlighted.slice(0, 3);
  let norm = names.includes(parameters.get("norm")) ? parameters.get("norm") : names[0];

  function write() {
    history.replaceState(null, "", `?models=${chosen.map(encodeURIComponent).join(",")}&norm=${norm}`);
  }
  function picker() {
    $("modellist").replaceChildren(...models.filter((m) => !chosen.includes(m.slug)).map((m) => el("option", { value: m.slug }, m.title)));
    $("chosen").replaceChildren(...chosen.map((slug, k) => {
      const remove = el("button", { type: "button", "aria-label": `Remove ${models[index.get(slug)].title}` }, "×");
      remove.addEventListener("click", () => { chosen = chosen.filter((s) => s !== slug); render(); });
      return el("li", {}, el("span", { class: `badge s${k}` }, LETTERS[k]), el("a", { href: `models/${slug}/index.html` }, models[index.get(slug)].title), remove);
    }));
    $("normtabs").replaceChildren(...names.map((name) => {
      const link = el("a", { href: `?models=${chosen.join(",")}&norm=${name}`, "aria-current": name === norm ? "page" : null }, el("b", {}, { linf: "ℓ∞", l2: "ℓ₂", l1: "ℓ₁", union: "union" }[name]));
      link.addEventListener("click", (event) => { event.preventDefault(); norm = name; render(); });
      return el("li", {}, link);
    }));
  }

  // Shares of samples that only one of the two is robust on, at each position, from the samples' bins.
  function discordant(a, b, g) {
    const first = new Float64Array(g + 1), second = new Float64Array(g + 1);
    for (let s = 0; s < n; s++) {
      if (a[s] > b[s]) { first[Math.min(b[s], g)]++; first[Math.min(a[s], g)]--; }
      else if (b[s] > a[s]) { second[Math.min(a[s], g)]++; second[Math.min(b[s], g)]--; }
    }
    for (let i = 1; i < g; i++) { first[i] += first[i - 1]; second[i] += second[i - 1]; }
    return Array.from({ length: g }, (_, i) => {
      const p = first[i] / n, q = second[i] / n, gap = p - q;
      return [gap, 1.959963984540054 * Math.sqrt(Math.max(p + q - gap * gap, 0) / n)];
    });
  }

  async function render() {
    write();
    picker();
    const data = await CB.norm(norm);
    const parts = await Promise.all(chosen.map((slug) => CB.distances(slug)));
    const { grid, g } = data, xMax = grid[g - 1], xs = grid.map((x) => x / xMax);
    const common = { xLabel: data.label, xMax, xTicks: data.ticks, marks: data.published, css: "board" };
    const title = (k) => models[index.get(chosen[k])].title;
    const lines = [];
    chosen.forEach((slug, k) => {
      const found = parts[k].norms[norm];
      for (const [name, cls] of [["certified", "dash"], ["clever", "dots"]]) {
        if (found[name]) {
          const counts = CB.falling(found[name], g);
          lines.push({ cls: `s${k} ${cls}`, xs, ys: Array.from(counts, (c) => 1 - c / n), step: true });
        }
      }
    });
    chosen.forEach((slug, k) => {
      const i = index.get(slug), ys = Array.from({ length: g }, (_, p) => 1 - data.counts[i * g + p] / n);
      const level = (1 - ys[0]) * (0.86 - 0.66 * k / Math.max(chosen.length - 1, 1)), at = ys.findIndex((y) => 1 - y <= level);
      lines.push({ cls: `s${k} thick`, xs, ys, step: true, badge: LETTERS[k], at: at >= 0 ? [[xs[at], ys[at]]] : [] });
    });
    const curves = (crossings) => CB.draw($("cmpcurves"), { ...common, label: `Robustness curves in ${data.symbol} of ${chosen.map((_, k) => title(k)).join(", ")}`, yLabel: "robust accuracy", yTicks: CB.percentTicks, lines, crossings });
    curves([]);
    const pair = chosen.length >= 2;
    $("cmpgap").closest("figure").hidden = !pair;
    $("cmpwords").replaceChildren();
    $("cmptables").replaceChildren(scores(data));
    if (!pair) { $("cmpwords").append("Choose at least two models."); $("cmpsamples").replaceChildren(); return; }
    const bins = parts.map((part) => CB.u16(part.norms[norm].bins)), [a, b] = bins;
    gap(data, discordant(a, b, g), common, title);
    samples(data, a, b, parts, title);
    const marks = words(data, bins, title);
    curves(marks.map(([p, k, text]) => [xs[p], 1 - data.counts[index.get(chosen[k]) * g + p] / n, text]));
  }
  function gap(data, values, common, title) {
    const { grid, g } = data, xMax = grid[g - 1];
    const largest = Math.max(...values.map(([v, h]) => Math.abs(v) + h));
    const reach = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8].find((step) => step >= largest) ?? 1;
    const y = (v) => (reach - v) / (2 * reach);
    const at = (k) => Math.round(grid[k] / xMax * CB.W), down = (v) => Math.round(Math.min(Math.max(y(v), 0), 1) * CB.H);
    let d = `M${at(0)} ${down(values[0][0] + values[0][1])}`;
    for (let k = 1; k < g; k++) d += `H${at(k)}V${down(values[k][0] + values[k][1])}`;
    d += `V${down(values[g - 1][0] - values[g - 1][1])}`;
    for (let k = g - 2; k >= 0; k--) d += `V${down(values[k][0] - values[k][1])}H${at(k)}`;
    $("cmpgaptitle").textContent = `${title(0)} minus ${title(1)}`;
    CB.draw($("cmpgap"), {
      ...common, label: `Difference of robust accuracies in ${data.symbol}`, yLabel: "difference in points", areas: [{ cls: "s6", d: `${d}Z` }],
      yTicks: [-2, -1, 0, 1, 2].map((k) => [y(k * reach / 2), k ? `${k > 0 ? "+" : "−"}${num(Math.abs(50 * k * reach))}` : "0"]),
      lines: [{ cls: "s7 thick", xs: grid.map((x) => x / xMax), ys: values.map(([v]) => y(v)), step: true }],
    });
  }
  // How often each sample is drawn in each bootstrap resample: the same for every pair, so that the resamples are paired.
  let drawn = null;
  function resamples() {
    if (drawn) return drawn;
    drawn = new Uint8Array(RESAMPLES * n);
    let state = 1;
    for (let r = 0; r < RESAMPLES; r++) for (let k = 0; k < n; k++) { // mulberry32: the same address shows the same figures
      state = (state + 0x6D2B79F5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      drawn[r * n + Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * n)]++;
    }
    return drawn;
  }
  // As benchmark.statistics.crossings, at the positions of the axis: a lead is a stretch where one curve is above the other,
  // its support the share of resamples in which the area between them has the same sign there; leads with less than 95 %
  // are merged into their neighbours, and a crossing lies between two that remain.
  function crossings(a, b, grid, g) {
    const gap = new Float64Array(g + 1), apart = [];
    for (let s = 0; s < n; s++) if (a[s] !== b[s]) {
      const low = Math.min(a[s], b[s], g), high = Math.min(Math.max(a[s], b[s]), g), sign = a[s] > b[s] ? 1 : -1;
      if (low === high) continue;
      apart.push([s, low, high, sign]);
      gap[low] += sign; gap[high] -= sign;
    }
    for (let p = 1; p < g; p++) gap[p] += gap[p - 1];
    let leads = [];
    for (let p = 0; p + 1 < g; p++) {
      const sign = Math.sign(gap[p]), last = leads.at(-1);
      if (!sign) continue;
      const area = gap[p] * (grid[p + 1] - grid[p]);
      if (last && last.sign === sign) { last.end = p + 1; last.area += area; } else leads.push({ start: p, end: p + 1, area, sign });
    }
    const merge = (weak) => {
      if (weak === 0 || weak === leads.length - 1) { leads.splice(weak, 1); return; }
      const [before, lead, after] = leads.slice(weak - 1, weak + 2), sum = before.area + lead.area + after.area;
      leads.splice(weak - 1, 3, { start: before.start, end: after.end, area: sum * before.area <= 0 ? before.area : sum, sign: before.sign });
    };
    const least = (values) => values.reduce((best, value, k) => value < values[best] ? k : best, 0);
    while (leads.length > 128) merge(least(leads.map((lead) => Math.abs(lead.area))));
    if (leads.length < 2) return [];
    const weights = resamples(), areas = new Float64Array(RESAMPLES * g); // area between the curves from 0 to each position
    for (let r = 0; r < RESAMPLES; r++) {
      const own = new Float64Array(g + 1);
      for (const [s, low, high, sign] of apart) { const w = sign * weights[r * n + s]; own[low] += w; own[high] -= w; }
      for (let p = 1; p < g; p++) {
        areas[r * g + p] = areas[r * g + p - 1] + own[p - 1] * (grid[p] - grid[p - 1]);
        own[p] += own[p - 1];
      }
    }
    const wins = (lead, r) => (areas[r * g + lead.end] - areas[r * g + lead.start]) * lead.sign > 0;
    const share = (...some) => { let k = 0; for (let r = 0; r < RESAMPLES; r++) if (some.every((lead) => wins(lead, r))) k++; return k / RESAMPLES; };
    for (;;) {
      const supports = leads.map((lead) => share(lead));
      if (leads.length < 2 || Math.min(...supports) >= 0.95) break;
      merge(least(supports));
    }
    return leads.slice(1).map((after, k) => {
      const before = leads[k], places = new Float64Array(RESAMPLES);
      for (let r = 0; r < RESAMPLES; r++) {
        let best = before.start;
        for (let p = before.start; p <= after.end; p++) if (areas[r * g + p] * before.sign > areas[r * g + best] * before.sign) best = p;
        places[r] = grid[best];
      }
      places.sort();
      const at = grid[after.start], quantile = (q) => places[Math.max(Math.ceil(q * RESAMPLES - 1e-9), 1) - 1];
      return { at, position: after.start, low: Math.min(quantile(0.025), at), high: Math.max(quantile(0.975), at), support: share(before, after), first: after.sign > 0 };
    });
  }
  // The crossings in words; returns them for the chart: [position, which of the chosen, what happens].
  function words(data, bins, title) {
    const list = el("ul", { class: "plain crossings" }), marks = [];
    for (let a = 0; a < chosen.length; a++) for (let b = a + 1; b < chosen.length; b++) {
      for (const x of crossings(bins[a], bins[b], data.grid, data.g)) {
        const [ahead, behind] = x.first ? [a, b] : [b, a];
        const name = (k) => [el("span", { class: `badge s${k}` }, LETTERS[k]), " ", title(k)];
        list.append(el("li", { "data-eps": x.at }, el("b", {}, ...name(ahead)), " overtakes ", ...name(behind), ` at ε = ${num(x.at)} `, el("span", { class: "ci" }, `${num(x.low)}–${num(x.high)}`), `, in ${pct(x.support, 0)} % of the resamples`));
        marks.push([x.position, ahead, `${title(ahead)} overtakes ${title(behind)} at ε = ${num(x.at)}`]);
      }
    }
    $("cmpwords").replaceChildren(list.children.length ? list : el("p", {}, `No two of these models cross in this norm, as far as ${n} images can tell.`));
    if (list.children.length) $("cmpwords").append(el("p", { class: "under muted" }, `Small: the interval that holds the place in 95 % of ${RESAMPLES} paired bootstrap resamples of the ${n} images. Leads that fewer than 95 % of them show are left out.`));
    return marks;
  }
  function scores(data) {
    const head = el("tr", {}, el("th", { scope: "col" }, "model"), el("th", { scope: "col" }, "clean %"), ...data.published.map((eps) => el("th", { scope: "col" }, `ε ${num(eps)} %`)), el("th", { scope: "col" }, `certified ${num(data.published[0])} %`), el("th", { scope: "col" }, "area"), el("th", { scope: "col" }, "median"), el("th", { scope: "col" }, "CLEVER"));
    const rows = chosen.map((slug, k) => {
      const i = index.get(slug);
      const cells = data.published.map((eps) => {
        const c = data.counts[i * data.g + CB.nearest(data.grid, eps)], [low, high] = CB.interval(c, n);
        return el("td", {}, pct(c / n), " ", el("span", { class: "ci" }, `${pct(low)}–${pct(high)}`));
      });
      return el("tr", {}, el("th", { scope: "row" }, el("span", { class: `badge s${k}` }, LETTERS[k]), " ", models[i].title), el("td", {}, pct(models[i].clean?.[0])), ...cells, el("td", {}, pct(data.certified[i][0])), el("td", {}, num(data.area[i][0])), el("td", {}, num(data.median[i])), el("td", {}, num(data.clever[i])));
    });
    return region("Scores", el("table", { class: "data" }, el("thead", {}, head), el("tbody", {}, ...rows)));
  }
  // A picture on a sheet of many; what it shows is told by its label.
  function tile(file, place, count, label) {
    const t = CB.tiles(), w = t.width * t.scale, h = t.height * t.scale;
    const x = place % t.columns * w, y = Math.floor(place / t.columns) * h;
    return el("span", { class: "tile", role: "img", "aria-label": label, style: `width:${w}px;height:${h}px;background:url(${file}) -${x}px -${y}px/${Math.min(count, t.columns) * w}px auto` });
  }
  function samples(data, a, b, parts, title) {
    const order = Array.from({ length: n }, (_, s) => s).sort((s, t) => Math.abs(b[t] - a[t]) - Math.abs(b[s] - a[s]) || s - t).slice(0, 12).filter((s) => a[s] !== b[s]);
    const text = (bin) => bin === 0 ? "misclassified" : bin >= data.g ? `> ${num(data.grid[data.g - 1])}` : num(data.grid[bin]);
    const tiles = CB.tiles();
    const rows = order.map((s) => {
      const item = el("li", {}), caption = (...inside) => el("figcaption", {}, ...inside);
      const sheet = tiles ? Math.floor(s / tiles.per) : 0;
      const clean = tiles && s < tiles.shown ? [tile(`${tiles.folder}/sheet-${sheet}.png`, s % tiles.per, Math.min(tiles.per, tiles.shown - sheet * tiles.per), `Sample ${s}`)] : [];
      item.append(el("figure", {}, ...clean, caption(`#${s}`)));
      [a, b].forEach((bins, k) => {
        const has = tiles && parts[k].sheets.includes(norm) && bins[s] > 0 && bins[s] < data.g;
        const picture = has ? [tile(`models/${chosen[k]}/adversarial-${norm}.png`, s, n, `Adversarial example of sample ${s} against ${title(k)}`)] : [];
        item.append(el("figure", {}, ...picture, caption(el("span", { class: `badge s${k}` }, LETTERS[k]), ` ${text(bins[s])}`)));
      });
      return item;
    });
    const pictures = tiles && [0, 1].some((k) => parts[k].sheets.includes(norm));
    $("cmpsamples").replaceChildren(el("h2", {}, "Samples that differ most"), el("p", {},
      `The images on which ${title(0)} and ${title(1)} differ most: for each, the ${data.symbol} distance of the nearest adversarial example known, to the axis’ resolution${pictures ? ", and that example beside the clean image" : ""}.`),
      el("ul", { class: "pairs" }, ...rows));
  }
  const region = (label, table) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);

  function add() {
    const text = $("addmodel").value.trim().toLowerCase();
    const found = models.find((m) => m.slug === text || m.title.toLowerCase() === text);
    if (!found || chosen.includes(found.slug) || chosen.length >= MOST) return;
    chosen.push(found.slug);
    $("addmodel").value = "";
    render();
  }
  $("addmodel").addEventListener("change", add);
  $("addmodel").addEventListener("input", (event) => { if (event.inputType === undefined || event.inputType === "insertReplacementText") add(); });
  await render();
  tool.hidden = false;
  $("comparestatic").hidden = true;
  tool.dataset.ready = "";
});
