// A chart of the page as a picture of its own, exactly as it is seen: zoomed as it is, without what is hidden, in the page's
// colours, and with a legend of the letters that stand in it.
"use strict";
window.CB.picture = (() => {
  const W = 760, H = 420, LEFT = 66, TOP = 34, RIGHT = 16, BOTTOM = 48, GAP = 8, ROW = 17;
  const { el } = CB;
  const xml = (text) => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const style = (node) => getComputedStyle(node);
  const seen = (node) => !node.hidden && style(node).display !== "none";

  // home: what holds the chart. title: its heading. pictured: lines that the page shows by a picture. named: [letter, title].
  function svg(home, { title, pictured = [], named = [] }) {
    const plot = home.querySelector(".plot"), drawn = plot.querySelector("svg");
    const w = W - LEFT - RIGHT, h = H - TOP - BOTTOM, ink = style(document.body).color, paper = style(document.body).backgroundColor;
    const letters = new Map([...plot.querySelectorAll(":scope > .badge")].filter(seen).map((badge) => [badge.textContent, badge]));
    const rows = rowsOf(named.filter(([letter]) => letters.has(letter)), w), total = H + (rows.length ? GAP + ROW * rows.length : 0);
    const out = [`<svg xmlns="http://www.w3.org/2000/svg" width="${W}" height="${total}" viewBox="0 0 ${W} ${total}" font-family="Liberation Sans, Arial, sans-serif" font-size="11" fill="${ink}">`,
      `<rect width="${W}" height="${total}" fill="${paper}"/><text x="${LEFT}" y="20" font-size="14">${xml(title)}</text>`, `<g transform="translate(${LEFT},${TOP})">`];
    const cut = plot.classList.contains("zoomed") ? "hidden" : "visible", box = drawn.getAttribute("viewBox");
    const whole = (path) => out.push(`<svg width="${w}" height="${h}" viewBox="${box}" preserveAspectRatio="none" overflow="${cut}">${path}</svg>`);
    const faint = style(document.documentElement).getPropertyValue("--faint");
    for (const d of pictured) whole(`<path d="${d}" fill="none" stroke="${faint}" vector-effect="non-scaling-stroke"/>`);
    for (const path of [...drawn.querySelectorAll("path")].filter(seen)) {
      const { stroke, strokeWidth, strokeDasharray, strokeLinecap, fill, fillOpacity } = style(path);
      const dashes = strokeDasharray === "none" ? "" : ` stroke-dasharray="${strokeDasharray.replaceAll("px", "")}"`;
      whole(`<path d="${path.getAttribute("d")}" fill="${fill}" fill-opacity="${fillOpacity}" stroke="${stroke}" stroke-width="${parseFloat(strokeWidth)}" stroke-linecap="${strokeLinecap}"${dashes} vector-effect="non-scaling-stroke"/>`);
    }
    const at = (node) => [parseFloat(node.style.left) / 100 * w, parseFloat(node.style.top) / 100 * h];
    for (const tick of [...plot.querySelectorAll(".xt")].filter(seen)) out.push(`<text x="${at(tick)[0]}" y="${h + 16}" text-anchor="middle">${xml(tick.textContent)}</text>`);
    for (const tick of [...plot.querySelectorAll(".yt")].filter(seen)) out.push(`<text x="-22" y="${at(tick)[1] + 4}" text-anchor="end">${xml(tick.textContent)}</text>`);
    for (const badge of [...plot.querySelectorAll(":scope > .badge")].filter(seen)) {
      const [x, y] = at(badge), left = badge.classList.contains("edge") ? x - 10 : x;
      out.push(letter(badge, left, y));
    }
    out.push(`<text x="${w}" y="${h + 36}" text-anchor="end">${xml(home.querySelector(".xlabel").textContent)}</text>`);
    rows.forEach((row, k) => row.forEach(([name, text, x]) => out.push(letter(letters.get(name), x + 8, H - TOP + GAP - 4 + ROW * k), `<text x="${x + 20}" y="${H - TOP + GAP + ROW * k}">${xml(text)}</text>`)));
    return `${out.join("")}</g></svg>\n`;
  }
  const letter = (badge, x, y) => `<circle cx="${x}" cy="${y}" r="8" fill="${style(badge).backgroundColor}"/><text x="${x}" y="${y + 3.5}" text-anchor="middle" font-size="10" fill="${style(badge).color}">${xml(badge.textContent)}</text>`;
  // [[letter, title, x]] a line of the legend.
  function rowsOf(named, width) {
    const rows = [];
    let used = Infinity;
    for (const [letter, title] of named) {
      const need = 36 + 6.2 * title.length;
      if (used + need > width) { rows.push([]); used = 0; }
      rows.at(-1).push([letter, title, used]);
      used += need;
    }
    return rows;
  }
  function png(drawn) {
    return new Promise((resolve) => {
      const image = new Image();
      image.onload = () => {
        const canvas = el("canvas", { width: String(2 * image.width), height: String(2 * image.height) });
        canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
        canvas.toBlob(resolve);
      };
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawn)}`;
    });
  }
  // A table of texts and numbers as CSV.
  const quoted = (text) => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const csv = (rows) => rows.map((row) => row.map((cell) => quoted(String(cell))).join(",")).join("\n") + "\n";
  // The curves that are seen, at the positions that are: ε, and of each model its share. lines: [slug, counts].
  function curves(grid, lines, n, view = [0, 1, 0, 1]) {
    const end = grid.at(-1), rows = [["eps", ...lines.map(([slug]) => slug)]];
    grid.forEach((eps, p) => { if (eps / end >= view[0] - 1e-6 && eps / end <= view[1] + 1e-6) rows.push([eps, ...lines.map(([, counts]) => counts[p] / n)]); });
    return csv(rows);
  }
  function save(name, content, type) {
    const address = URL.createObjectURL(new Blob([content], { type }));
    el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  return { svg, png, csv, curves, save };
})();
