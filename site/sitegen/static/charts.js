// What the board and the compare page share: reading the data files, intervals, and drawing charts as plots.py does.
"use strict";
window.CB = (() => {
  const W = 2000, H = 1000; // resolution of the stretched SVG
  const threats = new Map();
  let models = null, pictures = null, cited = null;

  // Data files push ["models" | "threat" | "parts" | "bins" | "tiles" | "cite", value] onto window.curveboard; take what is there.
  const bins = new Map(), parts = new Map();
  function drain() {
    const queue = (window.curveboard ??= []);
    for (const [kind, value] of queue.splice(0)) {
      if (kind === "models") models = { ...value, models: records(value.models) };
      else if (kind === "parts") parts.set(value.threat, value.parts);
      else if (kind === "tiles") pictures = value;
      else if (kind === "cite") cited = value;
      else if (kind === "bins") bins.set(value.slug, value);
      else threats.set(value.threat, unpack(value));
    }
  }
  function load(src) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = src;
      script.onload = () => { drain(); resolve(); };
      script.onerror = () => reject(new Error(`${src} cannot be loaded`));
      document.head.append(script);
    });
  }
  async function threat(name) {
    drain();
    if (!threats.has(name)) await load(`${name}.js`);
    return threats.get(name);
  }
  // What differs between the pages of two threats, as the server made it.
  async function partsOf(name) {
    if (!parts.has(name)) await load(`${name}-parts.js`);
    return parts.get(name);
  }
  async function distances(slug) {
    drain();
    if (!bins.has(slug)) await load(`models/${slug}/bins.js`);
    return bins.get(slug);
  }
  async function citations() {
    if (!cited) await load("cite.js");
    return cited;
  }
  function allModels() { drain(); return models; }
  function tiles() { drain(); return pictures; }

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const u16 = (text) => new Uint16Array(bytes(text).buffer);
  // A falling sequence as scripts_data.falls writes it: k, the first value, and the falls in a Rice code.
  const ESCAPE = 24;
  function falls(text, out, at, length) {
    const from = bytes(text), k = from[0];
    let p = 1, value = 0, shift = 0;
    do { value |= (from[p] & 127) << shift; shift += 7; } while (from[p++] & 128);
    let bit = 8 * p;
    const next = () => { const found = (from[bit >> 3] >> (7 - (bit & 7))) & 1; bit++; return found; };
    const number = (width) => { let found = 0; for (let j = 0; j < width; j++) found = 2 * found + next(); return found; };
    out[at] = value;
    for (let j = 1; j < length; j++) {
      let quotient = 0;
      while (quotient < ESCAPE && next()) quotient++;
      value -= quotient < ESCAPE ? quotient * 2 ** k + number(k) : number(32);
      out[at + j] = value;
    }
  }
  function falling(text, length) {
    const out = new Int32Array(length);
    falls(text, out, 0, length);
    return out;
  }
  // Records by key, as scripts_data.columnar writes them.
  function records(columns) {
    const rows = [];
    for (const [key, { each, of }] of Object.entries(columns)) (each ?? of[1]).forEach((value, i) => { (rows[i] ??= {})[key] = each ? value : of[0][value]; });
    return rows;
  }
  function unpack(data) {
    const g = data.grid.length, m = data.counts.length, { n, models: all } = models;
    const counts = new Int32Array(g * m), slugs = data.rows.map((k) => all[k].slug);
    data.counts.forEach((text, k) => falls(text, counts, k * g, g));
    const place = new Map(slugs.map((slug, k) => [slug, k])), certified = data.certified.map((row) => row.map((c) => c === null ? null : c / n));
    return { ...data, slugs, counts, certified, low: u16(data.low), high: u16(data.high), g, m, place };
  }

  const pct = (share, digits = 1) => share == null ? "–" : (100 * share).toFixed(digits);
  // As words.number: so many significant digits, ties up, no exponent but for very small ones.
  function num(value, digits = 3) {
    if (value == null || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    if (value === 0) return "0";
    const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
    if (exponent < -4) return value.toExponential(digits - 1).replace("e+", "e");
    if (exponent >= digits) return value.toFixed(0);
    const text = value.toFixed(digits - 1 - exponent);
    return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  }

  // As words.lacking: that some models have no value, by name as far as there are few.
  function lacking(titles, what, most = 4) {
    if (!titles.length) return "";
    const named = titles.length > most ? [...titles.slice(0, most), `${titles.length - most} more`] : titles;
    const listed = named.length > 1 ? `${named.slice(0, -1).join(", ")} and ${named.at(-1)}` : named[0];
    return `${titles.length} model${titles.length > 1 ? "s have" : " has"} ${what}: ${listed}.`;
  }

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  // The "d" of a function given at positions xs (already in 0…1) with values ys (0…1 from the top); null breaks it.
  function path(xs, ys, step) {
    let d = "", px = 0, py = 0, pen = false;
    for (let i = 0; i < xs.length; i++) {
      if (ys[i] === null || Number.isNaN(ys[i])) { pen = false; continue; }
      const x = Math.round(xs[i] * W), y = Math.round(Math.min(Math.max(ys[i], -0.02), 1.02) * H);
      if (!pen) { d += `M${x} ${y}`; pen = true; }
      else if (step) { if (y !== py) d += `H${x}V${y}`; else if (i === xs.length - 1) d += `H${x}`; else continue; }
      else d += `L${x} ${y}`;
      px = x; py = y;
    }
    return d;
  }

  const dot = ([x, y]) => `M${Math.round(x * W)} ${Math.round(y * H)}h0`;

  // chart: {css, label, yLabel, xLabel, xMax, xTicks, yTicks: [[place, text]], marks, areas, lines: [{cls, key, xs, ys, step, badge, at: [[x, y]]}], crossings: [[x, y, title]]}
  function draw(home, chart) {
    const plot = el("div", { class: "plot" });
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": chart.label });
    const grid = chart.yTicks.map(([y]) => `M0 ${Math.round(y * H)}H${W}`).join("") + chart.xTicks.map((x) => `M${Math.round(x / chart.xMax * W)} ${H}v12`).join("");
    picture.append(svg("path", { class: "grid", d: grid }));
    if (chart.marks.length) picture.append(svg("path", { class: "marks", d: chart.marks.map((x) => `M${Math.round(x / chart.xMax * W)} 0V${H}`).join("") }));
    for (const area of chart.areas ?? []) picture.append(svg("path", { class: `area ${area.cls}`, d: area.d }));
    const places = [];
    for (const line of chart.lines) {
      const node = svg("path", { class: `line ${line.cls}`, d: path(line.xs, line.ys, line.step) });
      if (line.key) node.dataset.k = line.key;
      picture.append(node);
      for (const [x, y] of line.at ?? []) places.push([line, x, y]);
    }
    const silent = (chart.crossings ?? []).filter(([, , title]) => !title).map(dot).join("");
    if (silent) picture.append(svg("path", { class: "cross", d: silent }));
    for (const mark of chart.crossings ?? []) if (mark[2]) {
      const node = svg("path", { class: "cross", d: dot(mark) }), title = svg("title", {});
      title.textContent = mark[2];
      node.append(title);
      picture.append(node);
    }
    plot.append(picture);
    for (const x of chart.xTicks) plot.append(el("span", { class: "xt", style: `left:${100 * x / chart.xMax}%` }, String(x)));
    for (const [y, text] of chart.yTicks) plot.append(el("span", { class: "yt", style: `top:${100 * y}%` }, text));
    for (const [line, x, y] of places) plot.append(el("span", { class: `badge ${line.cls}`, style: `left:${100 * x}%;top:${100 * y}%`, "aria-hidden": "true" }, line.badge));
    home.replaceChildren(el("div", { class: `chart ${chart.css}` }, el("div", { class: "ylabel" }, chart.yLabel), plot, el("div", { class: "xlabel" }, chart.xLabel)));
    return plot;
  }

  // Where the letters of curves stand, as charts/badges.py says: the position in the grid of each, null where a view holds
  // nothing of a curve. counts: arrays of length g; view: [left, right, top, bottom] in shares of the plot, where it is zoomed.
  function letterPlaces(counts, n, grid, view = [0, 1, 0, 1]) {
    const WIDTH = 1000, HEIGHT = 400, PLACES = 64, APART = 44, end = grid[grid.length - 1], [left, right, top, bottom] = view;
    const first = grid.findIndex((v) => v / end >= left - 1e-6), after = grid.findIndex((v) => v / end > right + 1e-6);
    const reach = (after < 0 ? grid.length : after) - 1 - first;
    const tried = Array.from({ length: PLACES - 1 }, (_, j) => first + Math.floor((j + 1) * reach / PLACES));
    const x = tried.map((p) => Math.floor((grid[p] / end - left) / (right - left) * WIDTH + 0.5));
    const y = counts.map((own) => tried.map((p) => Math.floor((1 - own[p] / n - top) / (bottom - top) * HEIGHT + 0.5)));
    const taken = [];
    return counts.map((own, k) => {
      let best = -1, most = -Infinity;
      tried.forEach((p, j) => {
        if (x[j] < 0 || x[j] > WIDTH || y[k][j] < 0 || y[k][j] > HEIGHT) return;
        let gap = APART, free = 2 * APART;
        y.forEach((other, i) => { if (i !== k) gap = Math.min(gap, Math.abs(other[j] - y[k][j])); });
        for (const [tx, ty] of taken) free = Math.min(free, Math.max(Math.abs(x[j] - tx), Math.abs(y[k][j] - ty)));
        const worth = (free < APART ? free - 10000 : 4 * gap + free) - (own[p] === 0 ? 1000 : 0);
        if (worth > most) { most = worth; best = j; }
      });
      if (best < 0) return null;
      taken.push([x[best], y[k][best]]);
      return tried[best];
    });
  }

  // Where the letters of single points stand, as charts/badges.py's spread says. points: [[left, top]] in shares of the plot.
  const FIELD = [250, 260], BADGE = 25, STEP = 13, RINGS = 10, offsets = [[0, 0]];
  for (let ring = 1; ring <= RINGS; ring++) {
    const own = [];
    for (let dy = -ring; dy <= ring; dy++) for (let dx = -ring; dx <= ring; dx++) if (Math.max(Math.abs(dx), Math.abs(dy)) === ring) own.push([dx, dy]);
    const key = ([dx, dy]) => [Math.abs(dx) + Math.abs(dy), Math.abs(dx), dy, dx];
    offsets.push(...own.sort((a, b) => { const s = key(a), t = key(b), k = s.findIndex((v, at) => v !== t[at]); return k < 0 ? 0 : s[k] - t[k]; }));
  }
  function spread(points) {
    const taken = [];
    return points.map((point) => {
      const [px, py] = point.map((share, k) => Math.floor(share * FIELD[k] + 0.5));
      const spots = offsets.map(([dx, dy]) => [px + dx * STEP, py + dy * STEP]);
      const within = spots.filter(([x, y]) => x >= 0 && x <= FIELD[0] && y >= 0 && y <= FIELD[1]), inside = within.length ? within : spots;
      const best = inside.find(([x, y]) => taken.every(([tx, ty]) => Math.max(Math.abs(x - tx), Math.abs(y - ty)) >= BADGE)) ?? inside[0];
      taken.push(best);
      return best[0] === px && best[1] === py ? point : [best[0] / FIELD[0], best[1] / FIELD[1]];
    });
  }

  const percentTicks = [[1, "0"], [0.75, "25 %"], [0.5, "50 %"], [0.25, "75 %"], [0, "100 %"]];
  // The position of the grid that is nearest to a value.
  function nearest(grid, value) {
    let best = 0;
    for (let i = 1; i < grid.length; i++) if (Math.abs(grid[i] - value) < Math.abs(grid[best] - value)) best = i;
    return best;
  }
  // The position that a place on a chart belongs to: the nearest; of counts, the last at or before it.
  function under({ grid, whole }, value) {
    const near = nearest(grid, value);
    return whole && near && grid[near] > value ? near - 1 : near;
  }
  return { threat, partsOf, distances, citations, allModels, tiles, falling, pct, num, lacking, el, svg, path, draw, percentTicks, letterPlaces, spread, nearest, under, u16, W, H };
})();
