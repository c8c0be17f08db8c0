// The compare page: any two to six models over each other. The address is a permalink: ?models=a,b&norm=linf.
"use strict";
document.addEventListener("DOMContentLoaded", async () => {
  const tool = document.getElementById("comparetool");
  if (!tool || !CB.allModels()) return;
  const { n, models } = CB.allModels();
  if (models.length < 2) return;
  const { el, pct, num } = CB;
  const $ = (id) => document.getElementById(id);
  const { symbols, columns } = CB.allModels(), names = Object.keys(symbols), RESAMPLES = 300, MOST = Number(tool.dataset.most), LETTERS = "ABCDEFGH";
  const index = new Map(models.map((m, i) => [m.slug, i]));
  const parameters = new URLSearchParams(location.search);
  let chosen = (parameters.get("models") ?? "").split(",").filter((s) => index.has(s)).slice(0, MOST);
  if (!chosen.length) chosen = CB.allModels().highlighted.slice(0, 4);
  let norm = names.includes(parameters.get("norm")) ? parameters.get("norm") : names[0];
  const { highlighted } = CB.allModels();
  // The board's letters and colours; the others get those that are left.
  function marked() {
    const free = [...LETTERS].filter((l, k) => !chosen.includes(highlighted[k]));
    return chosen.map((slug) => { const at = highlighted.indexOf(slug), letter = at >= 0 ? LETTERS[at] : free.shift(); return [letter, `s${LETTERS.indexOf(letter)}`]; });
  }
  let marks_ = [];
  const badge = (k) => el("span", { class: `badge ${marks_[k][1]}` }, marks_[k][0]);

  function write() {
    history.replaceState(null, "", `?models=${chosen.map(encodeURIComponent).join(",")}&norm=${norm}`);
  }
  function picker() {
    $("modellist").replaceChildren(...models.filter((m) => !chosen.includes(m.slug)).map((m) => el("option", { value: m.slug }, m.title)));
    $("chosen").replaceChildren(...chosen.map((slug, k) => {
      const remove = el("button", { type: "button", "aria-label": `Remove ${models[index.get(slug)].title}` }, "×");
      remove.addEventListener("click", () => { chosen = chosen.filter((s) => s !== slug); render(); });
      return el("li", {}, badge(k), el("a", { href: `models/${slug}/index.html` }, models[index.get(slug)].title), remove);
    }));
    $("normtabs").replaceChildren(...names.map((name) => {
      const link = el("a", { href: `?models=${chosen.join(",")}&norm=${name}`, "aria-current": name === norm ? "page" : null }, el("b", {}, symbols[name]));
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
    marks_ = marked();
    write();
    picker();
    const data = await CB.threat(norm);
    const lacking = chosen.filter((slug) => !data.place.has(slug)), own = chosen.filter((slug) => data.place.has(slug));
    marks_ = marks_.filter((_, k) => data.place.has(chosen[k]));
    const parts = await Promise.all(own.map((slug) => CB.distances(slug)));
    const { grid, g } = data, xMax = grid[g - 1], xs = grid.map((x) => x / xMax);
    const common = { xLabel: data.label, xMax, xTicks: data.ticks, marks: data.published, css: "board" };
    const title = (k) => models[index.get(own[k])].title;
    const counts = own.map((slug) => data.counts.subarray(data.place.get(slug) * g, (data.place.get(slug) + 1) * g));
    const lines = [];
    if ($("cmpproven").checked) parts.forEach((part, k) => {
      const proven = part.threats[norm].certified;
      if (proven) lines.push({ cls: `${marks_[k][1]} dash`, xs, ys: Array.from(CB.falling(proven, g), (c) => 1 - c / n), step: true });
    });
    const at = CB.letterPlaces(counts, n, grid);
    counts.forEach((c, k) => lines.push({ cls: `${marks_[k][1]} thick`, key: own[k], xs, ys: Array.from(c, (v) => 1 - v / n), step: true, badge: marks_[k][0], at: [[xs[at[k]], 1 - c[at[k]] / n]] }));
    const pair = own.length >= 2;
    $("cmpgap").closest("figure").hidden = !pair;
    $("cmpwords").replaceChildren();
    $("cmptables").replaceChildren(scores(data, own, counts));
    const bins = parts.map((part) => CB.u16(part.threats[norm].bins)), [a, b] = bins;
    const marks = pair ? words(data, bins, title) : [];
    const crossed = marks.map(([p, k, text]) => [xs[p], 1 - counts[k][p] / n, text]);
    CB.draw($("cmpcurves"), { ...common, label: `Curves in ${data.symbol}. Robust accuracy of ${own.length} models against ε.`, yLabel: "robust accuracy", yTicks: CB.percentTicks, lines, crossings: crossed });
    if (pair) { gap(data, discordant(a, b, g), common, title); samples(data, a, b, parts, title, own); }
    else { $("cmpwords").append("Choose at least two models."); $("cmpsamples").replaceChildren(); }
    if (lacking.length) $("cmpwords").append(el("p", { class: "notice" }, `Not attacked in ${data.symbol}: ${lacking.map((slug) => models[index.get(slug)].title).join(", ")}.`));
  }
  function gap(data, values, common, title) {
    const { grid, g } = data, xMax = grid[g - 1];
    const largest = Math.max(...values.map(([v, h]) => Math.abs(v) + h));
    const reach = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((step) => step >= largest) ?? 1;
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
  // The crossings in words; returns them for the chart: [position, which of the chosen, what happens].
  function words(data, bins, title) {
    const list = el("ul", { class: "plain crossings" }), marks = [], found = [];
    for (let a = 0; a < bins.length; a++) for (let b = a + 1; b < bins.length; b++) {
      for (const x of CB.crossings(bins[a], bins[b], data.grid, n)) found.push([x, a, b]);
    }
    found.sort((s, t) => s[0].position - t[0].position || s[1] - t[1] || s[2] - t[2]);
    for (const [x, a, b] of found) {
      const [ahead, behind] = x.first ? [a, b] : [b, a];
      const name = (k) => [badge(k), " ", title(k)];
      list.append(el("li", { "data-eps": x.at }, el("b", {}, ...name(ahead)), " overtakes ", ...name(behind), ` at ε = ${num(x.at)} `, el("span", { class: "ci" }, `${num(x.low)}–${num(x.high)}`), `, in ${pct(x.support, 0)} % of the resamples`));
      marks.push([x.position, ahead, `${title(ahead)} overtakes ${title(behind)} at ε = ${num(x.at)}`]);
    }
    $("cmpwords").replaceChildren(list.children.length ? list : el("p", {}, `No two of these models cross in this norm, as far as ${n} images can tell.`));
    if (list.children.length) $("cmpwords").append(el("p", { class: "under muted" }, `Small: the interval that holds the place in 95 % of ${RESAMPLES} paired bootstrap resamples of the ${n} images. Leads that fewer than 95 % of them show are left out.`));
    return marks;
  }
  function scores(data, own, counts) {
    const shown = columns.filter((c) => data.cells[c.id]);
    const heads = ["model", ...data.published.map((eps) => `ε ${num(eps)} %`), "area", "median", ...shown.map((c) => c.title)];
    const rows = own.map((slug, k) => {
      const i = data.place.get(slug);
      const shares = data.published.map((eps) => {
        const c = counts[k][CB.nearest(data.grid, eps)], [low, high] = CB.interval(c, n);
        return `${pct(c / n)} (${pct(low)}–${pct(high)})`;
      });
      const cells = [...shares, num(data.area[i]), num(data.median[i]), ...shown.map((c) => data.cells[c.id][i][0])];
      return el("tr", {}, el("th", { scope: "row" }, badge(k), " ", models[index.get(slug)].title), ...cells.map((text) => el("td", {}, text)));
    });
    const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
    return region("Figures", el("table", { class: "data" }, el("thead", {}, head), el("tbody", {}, ...rows)));
  }
  // A picture on a sheet of many; what it shows is told by its label.
  function tile(file, place, count, label) {
    const t = CB.tiles(), w = t.width * t.scale, h = t.height * t.scale;
    const x = place % t.columns * w, y = Math.floor(place / t.columns) * h;
    return el("span", { class: "tile", role: "img", "aria-label": label, style: `width:${w}px;height:${h}px;background:url(${file}) -${x}px -${y}px/${Math.min(count, t.columns) * w}px auto` });
  }
  function samples(data, a, b, parts, title, own) {
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
        const picture = has ? [tile(`models/${own[k]}/adversarial-${norm}.png`, s, n, `Adversarial example of sample ${s} against ${title(k)}`)] : [];
        item.append(el("figure", {}, ...picture, caption(badge(k), ` ${text(bins[s])}`)));
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
  $("cmpproven").addEventListener("change", render);
  await render();
  tool.hidden = false;
  $("comparestatic").hidden = true;
  tool.dataset.ready = "";
});
