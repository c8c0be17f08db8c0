// The compare page: any two to six models over each other. The address is a permalink: ?models=a,b&norm=linf.
"use strict";
document.addEventListener("DOMContentLoaded", async () => {
  const tool = document.getElementById("comparetool");
  if (!tool || !CB.allModels()) return;
  const { n, models } = CB.allModels();
  if (models.length < 2) return;
  const { el, pct, num } = CB;
  const $ = (id) => document.getElementById(id);
  const names = tool.dataset.norms.split(" "), MOST = Number(tool.dataset.most), LETTERS = "ABCDEF";
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
      const link = el("a", { href: `?models=${chosen.join(",")}&norm=${name}`, "aria-current": name === norm ? "page" : null }, el("b", {}, { linf: "ℓ∞", l2: "ℓ₂", l1: "ℓ₁", union: "union of norms" }[name]));
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
    CB.draw($("cmpcurves"), { ...common, label: `Robustness curves in ${data.symbol} of ${chosen.map((_, k) => title(k)).join(", ")}`, yLabel: "robust accuracy", yTicks: CB.percentTicks, lines });
    const pair = chosen.length >= 2;
    $("cmpgap").closest("figure").hidden = !pair;
    $("cmpwords").replaceChildren();
    $("cmptables").replaceChildren(scores(data));
    if (!pair) { $("cmpwords").append("Choose at least two models."); return; }
    const [a, b] = [0, 1].map((k) => CB.u16(parts[k].norms[norm].bins));
    gap(data, discordant(a, b, g), common, title);
    words(data, title);
    $("cmptables").append(samples(data, a, b, title));
  }
  function gap(data, values, common, title) {
    const { grid, g } = data, xMax = grid[g - 1];
    const reach = Math.max(0.05, Math.ceil(20 * Math.max(...values.map(([v, h]) => Math.abs(v) + h))) / 20);
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
  // Crossings of the curves themselves, at the positions of the axis; leads shorter than 1 % of it are passed over.
  function words(data, title) {
    const list = el("ul", { class: "plain" });
    for (let a = 0; a < chosen.length; a++) for (let b = a + 1; b < chosen.length; b++) {
      const [i, j] = [index.get(chosen[a]), index.get(chosen[b])];
      let lead = 0, since = 0, kept = 0;
      for (let p = 0; p < data.g; p++) {
        const sign = Math.sign(data.counts[i * data.g + p] - data.counts[j * data.g + p]);
        if (sign && sign !== lead) { lead = sign; since = p; }
        if (lead && lead !== kept && p - since >= data.g / 100) {
          if (kept) list.append(el("li", {}, el("b", {}, title(lead > 0 ? a : b)), ` overtakes ${title(lead > 0 ? b : a)} at ε = ${num(data.grid[since])}`));
          kept = lead;
        }
      }
    }
    $("cmpwords").replaceChildren(list.children.length ? list : el("p", {}, "The order of these models does not change in this norm."));
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
  function samples(data, a, b, title) {
    const order = Array.from({ length: n }, (_, s) => s).sort((s, t) => Math.abs(b[t] - a[t]) - Math.abs(b[s] - a[s]) || s - t).slice(0, 12).filter((s) => a[s] !== b[s]);
    const text = (bin) => bin >= data.g ? `> ${num(data.grid[data.g - 1])}` : num(data.grid[bin]);
    const rows = order.map((s) => el("tr", {}, el("th", { scope: "row" }, String(s)), el("td", {}, text(a[s])), el("td", {}, text(b[s]))));
    const head = el("tr", {}, el("th", { scope: "col" }, "sample"), el("th", { scope: "col" }, title(0)), el("th", { scope: "col" }, title(1)));
    const table = el("table", { class: "data" }, el("caption", {}, "The samples on which the first two differ most: distances, to the axis' resolution"), el("thead", {}, head), el("tbody", {}, ...rows));
    return region("Samples that differ", table);
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
