// What a reader takes away of the board as it is seen: the charts as SVG and PNG, the figures as CSV, rows as LaTeX and BibTeX.
"use strict";
window.CB.boardTake = (board) => {
  const { el, num, pct } = CB;
  const { n } = CB.allModels();
  const W = 760, H = 420, LEFT = 66, TOP = 34, RIGHT = 16, BOTTOM = 48;
  const of = (slug) => CB.allModels().models.find((m) => m.slug === slug);
  const xml = (text) => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);

  // The rows that are meant: those that are selected, or else all that the filter shows, the best first.
  function meant() {
    const { data, state, visible } = board;
    const found = state.sel.length ? visible.filter((i) => state.sel.includes(data.slugs[i])) : [...visible];
    return found.sort((a, b) => state.ranks[a] - state.ranks[b] || data.area[b] - data.area[a]);
  }
  const marks = () => { const { data } = board; return data.published.map((eps) => [eps, CB.nearest(data.grid, eps)]); };
  const share = (i, at) => board.data.counts[i * board.data.g + at] / n;

  function csv() {
    const { data, state } = board, grid = [...new Map([...marks(), [data.grid[state.at], state.at]])];
    const quoted = (text) => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const head = ["model", "title", "rank", "threat", "area", ...grid.map(([eps]) => `robust_accuracy_${eps}`)];
    const rows = meant().map((i) => [data.slugs[i], of(data.slugs[i]).title, state.ranks[i] || "", state.norm, data.area[i], ...grid.map(([, at]) => share(i, at))]);
    return [head, ...rows].map((row) => row.map((cell) => quoted(String(cell))).join(",")).join("\n") + "\n";
  }
  function latex() {
    const { data, state } = board, escaped = (text) => text.replace(/[&%$#_{}]/g, "\\$&").replace(/ℓ∞/g, "$\\ell_\\infty$").replace(/ℓ₂/g, "$\\ell_2$").replace(/ℓ₁/g, "$\\ell_1$");
    const heads = ["Model", "Clean", ...marks().map(([eps]) => `${escaped(data.symbol)} ${num(eps)}`)];
    const rows = meant().map((i) => [escaped(of(data.slugs[i]).title), pct(of(data.slugs[i]).unharmed?.value), ...marks().map(([, at]) => pct(share(i, at)))]);
    const lines = rows.map((row) => `${row.join(" & ")} \\\\`);
    return `\\begin{tabular}{l${"r".repeat(heads.length - 1)}}\n\\hline\n${heads.join(" & ")} \\\\\n\\hline\n${lines.join("\n")}\n\\hline\n\\end{tabular}\n`;
  }
  async function bibtex() {
    const cited = await CB.citations();
    return ["", ...meant().map((i) => board.data.slugs[i])].map((slug) => cited[slug]).join("\n");
  }

  // A chart of the page as a picture of its own: what is hidden there is not in it, colours are those of the page.
  function picture(name) {
    const home = document.getElementById(name), plot = home.querySelector(".plot"), style = (node) => getComputedStyle(node);
    const w = W - LEFT - RIGHT, h = H - TOP - BOTTOM, ink = style(document.body).color, paper = style(document.body).backgroundColor;
    const out = [`<svg xmlns="http://www.w3.org/2000/svg" width="${W}" height="${H}" viewBox="0 0 ${W} ${H}" font-family="Liberation Sans, Arial, sans-serif" font-size="11" fill="${ink}">`,
      `<rect width="${W}" height="${H}" fill="${paper}"/><text x="${LEFT}" y="20" font-size="14">${xml(home.closest("figure").querySelector("strong").textContent)}</text>`, `<g transform="translate(${LEFT},${TOP})">`];
    const paths = [...plot.querySelectorAll("svg path")].filter((path) => style(path).display !== "none");
    const whole = (path) => `<svg width="${w}" height="${h}" viewBox="0 0 ${CB.W} ${CB.H}" preserveAspectRatio="none" overflow="visible">${path}</svg>`;
    const faint = style(document.documentElement).getPropertyValue("--faint");
    if (name === "curves") for (const d of board.charts.pictured()) out.push(whole(`<path d="${d}" fill="none" stroke="${faint}" vector-effect="non-scaling-stroke"/>`));
    for (const path of paths) {
      const { stroke, strokeWidth, strokeDasharray, strokeLinecap } = style(path);
      const dashes = strokeDasharray === "none" ? "" : ` stroke-dasharray="${strokeDasharray.replaceAll("px", "")}"`;
      out.push(whole(`<path d="${path.getAttribute("d")}" fill="none" stroke="${stroke}" stroke-width="${parseFloat(strokeWidth)}" stroke-linecap="${strokeLinecap}"${dashes} vector-effect="non-scaling-stroke"/>`));
    }
    const at = (node) => [parseFloat(node.style.left) / 100 * w, parseFloat(node.style.top) / 100 * h];
    for (const tick of plot.querySelectorAll(".xt")) out.push(`<text x="${at(tick)[0]}" y="${h + 16}" text-anchor="middle">${xml(tick.textContent)}</text>`);
    for (const tick of plot.querySelectorAll(".yt")) out.push(`<text x="-22" y="${at(tick)[1] + 4}" text-anchor="end">${xml(tick.textContent)}</text>`);
    for (const badge of plot.querySelectorAll(".badge")) if (style(badge).display !== "none") {
      const [x, y] = at(badge), left = badge.classList.contains("edge") ? x - 10 : x;
      out.push(`<circle cx="${left}" cy="${y}" r="8" fill="${style(badge).backgroundColor}"/><text x="${left}" y="${y + 3.5}" text-anchor="middle" font-size="10" fill="${style(badge).color}">${xml(badge.textContent)}</text>`);
    }
    out.push(`<text x="${w}" y="${h + 36}" text-anchor="end">${xml(home.querySelector(".xlabel").textContent)}</text></g></svg>\n`);
    return out.join("");
  }
  function png(name) {
    return new Promise((resolve) => {
      const image = new Image();
      image.onload = () => {
        const canvas = el("canvas", { width: String(2 * W), height: String(2 * H) });
        canvas.getContext("2d").drawImage(image, 0, 0, 2 * W, 2 * H);
        canvas.toBlob(resolve);
      };
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(picture(name))}`;
    });
  }

  function save(name, content, type) {
    const address = URL.createObjectURL(new Blob([content], { type }));
    el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  // Copying asks for the clipboard; where that is refused (a page from the disk) the text is saved as a file.
  async function copy(button, text, name) {
    const label = button.textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { save(name, text, "text/plain"); button.textContent = "Saved"; }
    setTimeout(() => { button.textContent = label; }, 1500);
  }
  const name = (what, end) => `${what}-${board.state.norm}.${end}`;
  const choices = [
    ["Copy as LaTeX", (button) => copy(button, latex(), name("rows", "tex"))],
    ["Copy BibTeX", async (button) => copy(button, await bibtex(), "cite.bib")],
    ["Rows as CSV", () => save(name("rows", "csv"), csv(), "text/csv")],
    ["Curves as SVG", () => save(name("curves", "svg"), picture("curves"), "image/svg+xml")],
    ["Curves as PNG", async () => save(name("curves", "png"), await png("curves"), "image/png")],
    ["Ranks as SVG", () => save(name("ranks", "svg"), picture("ranks"), "image/svg+xml")],
  ];
  const menu = document.getElementById("takemenu");
  menu.append(el("small", {}, "The rows that are selected, or else all that are shown."));
  for (const [title, act] of choices) {
    const button = el("button", { type: "button" }, title);
    button.addEventListener("click", () => act(button));
    menu.append(button);
  }
};
