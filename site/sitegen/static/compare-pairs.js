// Two of the compared models: their difference with its interval, and the samples on which they differ most.
"use strict";
window.CB.comparePairs = ({ badge, title }) => {
  const { el, num, pct } = CB;
  const { n } = CB.allModels();
  const $ = (id) => document.getElementById(id);

  // The difference of two models and the ends of its interval at each position, from the samples' bins: as
  // benchmark/differences.py.
  function differences(a, b, g) {
    const first = new Float64Array(g + 1), second = new Float64Array(g + 1);
    for (let s = 0; s < n; s++) {
      if (a[s] > b[s]) { first[Math.min(b[s], g)]++; first[Math.min(a[s], g)]--; }
      else if (b[s] > a[s]) { second[Math.min(a[s], g)]++; second[Math.min(b[s], g)]--; }
    }
    for (let i = 1; i < g; i++) { first[i] += first[i - 1]; second[i] += second[i - 1]; }
    return Array.from({ length: g }, (_, i) => {
      const f = first[i], s = second[i], gap = (f - s) / n, middle = (f - s) / (n + 2);
      const half = 1.959963984540054 * Math.sqrt(((f + s + 2) / (n + 2) - middle * middle) / (n + 2));
      return [gap, Math.max(Math.min(middle - half, gap), -1), Math.min(Math.max(middle + half, gap), 1)];
    });
  }
  // As sitegen/pairs.py.
  const signed = (share) => { const size = pct(Math.abs(share)); return Number(size) === 0 ? size : `${share > 0 ? "+" : "−"}${size}`; };
  const told = ([gap, low, high]) => `${signed(gap)} (${signed(low)} to ${signed(high)})`;

  // Every pair in a line; choose(i, j) when one is clicked.
  function table(data, bins, chosen, choose) {
    const at = data.published.map((eps) => CB.nearest(data.grid, eps)), rows = [];
    for (let i = 0; i < bins.length; i++) for (let j = i + 1; j < bins.length; j++) {
      const values = differences(bins[i], bins[j], data.g), on = chosen[0] === i && chosen[1] === j;
      const button = el("button", { type: "button", "aria-pressed": String(on) }, badge(i), ` ${title(i)} minus `, badge(j), ` ${title(j)}`);
      button.addEventListener("click", () => choose(i, j));
      rows.push(el("tr", {}, el("th", { scope: "row" }, button), ...at.map((p) => el("td", {}, told(values[p])))));
    }
    const heads = ["first minus second, in points", ...data.published.map((eps) => `ε ${num(eps)}`)];
    const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
    $("cmppairs").replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Differences of every pair" }, el("table", { class: "data differences" }, el("thead", {}, head), el("tbody", {}, ...rows))));
  }
  function chart(data, [i, j], bins, common) {
    const { grid, g } = data, xMax = grid[g - 1], values = differences(bins[i], bins[j], g);
    const largest = Math.max(...values.map(([, low, high]) => Math.max(-low, high)));
    const reach = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((step) => step >= largest) ?? 1;
    const y = (v) => (reach - v) / (2 * reach);
    const at = (k) => Math.round(grid[k] / xMax * CB.W), down = (v) => Math.round(Math.min(Math.max(y(v), 0), 1) * CB.H);
    let d = `M${at(0)} ${down(values[0][2])}`;
    for (let k = 1; k < g; k++) d += `H${at(k)}V${down(values[k][2])}`;
    d += `V${down(values[g - 1][1])}`;
    for (let k = g - 2; k >= 0; k--) d += `V${down(values[k][1])}H${at(k)}`;
    $("cmpgaptitle").textContent = `${title(i)} minus ${title(j)}`;
    CB.draw($("cmpgap"), {
      ...common, label: `Difference of robust accuracies in ${data.symbol}`, yLabel: "difference in points", areas: [{ cls: "s6", d: `${d}Z` }],
      yTicks: [-2, -1, 0, 1, 2].map((k) => [y(k * reach / 2), k ? `${k > 0 ? "+" : "−"}${num(Math.abs(50 * k * reach))}` : "0"]),
      lines: [{ cls: "s7 thick", xs: grid.map((x) => x / xMax), ys: values.map(([v]) => y(v)), step: true }],
    });
  }
  // A picture on a sheet of many; what it shows is told by its label.
  function tile(file, place, count, label) {
    const t = CB.tiles(), w = t.width * t.scale, h = t.height * t.scale;
    const x = place % t.columns * w, y = Math.floor(place / t.columns) * h;
    return el("span", { class: "tile", role: "img", "aria-label": label, style: `width:${w}px;height:${h}px;background:url(${file}) -${x}px -${y}px/${Math.min(count, t.columns) * w}px auto` });
  }
  function samples(data, pair, bins, parts, slugs, norm) {
    const [a, b] = pair.map((k) => bins[k]), tiles = CB.tiles();
    const order = Array.from({ length: n }, (_, s) => s).sort((s, t) => Math.abs(b[t] - a[t]) - Math.abs(b[s] - a[s]) || s - t).slice(0, 12).filter((s) => a[s] !== b[s]);
    const text = (bin) => bin === 0 ? "misclassified" : bin >= data.g ? `> ${num(data.grid[data.g - 1])}` : num(data.grid[bin]);
    const rows = order.map((s) => {
      const item = el("li", {}), caption = (...inside) => el("figcaption", {}, ...inside);
      const sheet = tiles ? Math.floor(s / tiles.per) : 0;
      const clean = tiles && s < tiles.shown ? [tile(`${tiles.folder}/sheet-${sheet}.png`, s % tiles.per, Math.min(tiles.per, tiles.shown - sheet * tiles.per), `Sample ${s}`)] : [];
      item.append(el("figure", {}, ...clean, caption(`#${s}`)));
      for (const k of pair) {
        const has = tiles && parts[k].sheets.includes(norm) && bins[k][s] > 0 && bins[k][s] < data.g;
        const picture = has ? [tile(`models/${slugs[k]}/adversarial-${norm}.png`, s, n, `Adversarial example of sample ${s} against ${title(k)}`)] : [];
        item.append(el("figure", {}, ...picture, caption(badge(k), ` ${text(bins[k][s])}`)));
      }
      return item;
    });
    const pictures = tiles && pair.some((k) => parts[k].sheets.includes(norm));
    $("cmpsamples").replaceChildren(el("h2", {}, "Samples that differ most"), el("p", {},
      `The images on which ${title(pair[0])} and ${title(pair[1])} differ most: for each, the ${data.symbol} distance of the nearest adversarial example known, to the axis’ resolution${pictures ? ", and that example beside the clean image" : ""}.`),
      el("ul", { class: "pairs" }, ...rows));
  }
  return { table, chart, samples };
};
