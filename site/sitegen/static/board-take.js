// What a reader takes away of the board as it is seen: the charts as SVG and PNG, the figures as CSV, rows as LaTeX and BibTeX.
"use strict";
window.CB.boardTake = (board) => {
  const { el, num, pct } = CB;
  const { n } = CB.allModels();
  const { svg, png, save } = CB.picture;
  const of = (slug) => CB.allModels().models.find((m) => m.slug === slug);

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
    const head = ["model", "title", "rank", "threat", "area", ...grid.map(([eps]) => `robust_accuracy_${eps}`)];
    const rows = meant().map((i) => [data.slugs[i], of(data.slugs[i]).title, state.ranks[i] || "", state.norm, data.area[i], ...grid.map(([, at]) => share(i, at))]);
    return CB.picture.csv([head, ...rows]);
  }
  function latex() {
    const { data, state } = board, escaped = (text) => text.replace(/[&%$#_{}]/g, "\\$&").replace(/ℓ∞/g, "$\\ell_\\infty$").replace(/ℓ₂/g, "$\\ell_2$").replace(/ℓ₁/g, "$\\ell_1$");
    const heads = ["Model", "Clean", ...marks().map(([eps]) => `${escaped(data.symbol)} ${num(eps)}`)];
    const rows = meant().map((i) => [escaped(of(data.slugs[i]).title), pct(of(data.slugs[i]).unharmed), ...marks().map(([, at]) => pct(share(i, at)))]);
    const lines = rows.map((row) => `${row.join(" & ")} \\\\`);
    return `\\begin{tabular}{l${"r".repeat(heads.length - 1)}}\n\\hline\n${heads.join(" & ")} \\\\\n\\hline\n${lines.join("\n")}\n\\hline\n\\end{tabular}\n`;
  }
  async function bibtex() {
    const cited = await CB.citations();
    return ["", ...meant().map((i) => board.data.slugs[i])].map((slug) => cited[slug]).join("\n");
  }

  // A chart as it is seen; the curves that the page shows by a picture are drawn.
  function picture(name) {
    const home = document.getElementById(name), title = home.closest("figure").querySelector("strong").textContent;
    const named = [...CB.allModels().highlighted, ...board.state.sel].map((slug) => [board.letterOf(slug), of(slug).title]);
    return svg(home, { title, named: [...new Map(named)], pictured: name === "curves" ? board.charts.pictured() : [] });
  }
  const curves = () => CB.picture.curves(board.data.grid, board.charts.lines(), n, board.state.view ?? undefined);

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
    ["Curves as CSV", () => save(name("curves", "csv"), curves(), "text/csv")],
    ...["curves", "ranks", "field", "records"].flatMap((part) => {
      const title = part[0].toUpperCase() + part.slice(1);
      return [
        [`${title} as SVG`, () => save(name(part, "svg"), picture(part), "image/svg+xml")],
        [`${title} as PNG`, async () => save(name(part, "png"), await png(picture(part)), "image/png")],
      ];
    }),
  ];
  const menu = document.getElementById("takemenu");
  menu.append(el("small", {}, "The rows that are selected, or else all that are shown; charts as they are seen, zoomed and with what the legend leaves."));
  for (const [title, act] of choices) {
    const button = el("button", { type: "button" }, title);
    button.addEventListener("click", () => act(button));
    menu.append(button);
  }
};
