// What the board and the compare page share: reading the data files, intervals, and drawing charts as plots.py does.
"use strict";
window.CB = (() => {
  const W = 2000, H = 1000; // resolution of the stretched SVG
  const norms = new Map();
  let models = null, pictures = null;

  // Data files push ["models" | "norm" | "bins" | "tiles", value] onto window.curveboard; take what is there.
  const bins = new Map();
  function drain() {
    const queue = (window.curveboard ??= []);
    for (const [kind, value] of queue.splice(0)) {
      if (kind === "models") models = value;
      else if (kind === "tiles") pictures = value;
      else if (kind === "bins") bins.set(value.slug, value);
      else norms.set(value.norm, unpack(value));
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
  async function norm(name) {
    drain();
    if (!norms.has(name)) await load(`${name}.js`);
    return norms.get(name);
  }
  async function distances(slug) {
    drain();
    if (!bins.has(slug)) await load(`models/${slug}/bins.js`);
    return bins.get(slug);
  }
  function allModels() { drain(); return models; }
  function tiles() { drain(); return pictures; }

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const u16 = (text) => new Uint16Array(bytes(text).buffer);
  // A falling sequence: its first value, then its falls, seven bits a byte (LEB128).
  function falls(text, out, at) {
    let value = 0, shift = 0, current = null;
    for (const byte of bytes(text)) {
      value |= (byte & 127) << shift;
      if (byte & 128) { shift += 7; continue; }
      current = current === null ? value : current - value;
      out[at++] = current;
      value = shift = 0;
    }
  }
  function falling(text, length) {
    const out = new Int32Array(length);
    falls(text, out, 0);
    return out;
  }
  function unpack(data) {
    const g = data.grid.length, m = data.counts.length;
    const counts = new Int32Array(g * m);
    data.counts.forEach((text, k) => falls(text, counts, k * g));
    return { ...data, counts, low: u16(data.low), high: u16(data.high), g, m };
  }

  // Clopper–Pearson, 95 %: the ends are quantiles of beta distributions, found by bisection.
  const logGamma = (x) => {
    const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 1.208650973866179e-3, -5.395239384953e-6];
    let y = x, s = 1.000000000190015;
    const t = x + 5.5 - (x + 0.5) * Math.log(x + 5.5);
    for (const k of c) s += k / ++y;
    return -t + Math.log(2.5066282746310005 * s / x);
  };
  function betaFraction(a, b, x) {
    const tiny = 1e-300;
    let c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (Math.abs(d) < tiny ? tiny : d);
    let h = d;
    for (let m = 1; m <= 400; m++) {
      for (const n of [m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 + n * d; d = 1 / (Math.abs(d) < tiny ? tiny : d);
        c = 1 + n / c; if (Math.abs(c) < tiny) c = tiny;
        h *= d * c;
      }
      if (Math.abs(d * c - 1) < 1e-12) break;
    }
    return h;
  }
  function betaShare(a, b, x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x));
    return x < (a + 1) / (a + b + 2) ? front * betaFraction(a, b, x) / a : 1 - front * betaFraction(b, a, 1 - x) / b;
  }
  function betaQuantile(p, a, b) {
    let low = 0, high = 1;
    for (let k = 0; k < 46; k++) { const mid = (low + high) / 2; if (betaShare(a, b, mid) < p) low = mid; else high = mid; }
    return (low + high) / 2;
  }
  const memory = new Map();
  function interval(k, n) {
    const key = k * 1e7 + n;
    if (!memory.has(key)) memory.set(key, [k === 0 ? 0 : betaQuantile(0.025, k, n - k + 1), k === n ? 1 : betaQuantile(0.975, k + 1, n - k)]);
    return memory.get(key);
  }

  const pct = (share, digits = 1) => share == null ? "–" : (100 * share).toFixed(digits);
  function num(value, digits = 3) {
    if (value == null || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return "∞";
    return String(Number(value.toPrecision(digits)));
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

  const percentTicks = [[1, "0"], [0.75, "25 %"], [0.5, "50 %"], [0.25, "75 %"], [0, "100 %"]];
  // The position of the grid that is nearest to a value.
  function nearest(grid, value) {
    let best = 0;
    for (let i = 1; i < grid.length; i++) if (Math.abs(grid[i] - value) < Math.abs(grid[best] - value)) best = i;
    return best;
  }
  return { norm, distances, allModels, tiles, falling, interval, pct, num, el, svg, path, draw, percentTicks, nearest, u16, W, H };
})();
