// The compare page: any two to six models over each other. The address is a permalink: ?models=a,b&norm=linf&pair=a,b.
"use strict";
document.addEventListener("DOMContentLoaded", async () => {
  const tool = document.getElementById("comparetool");
  if (!tool || !CB.allModels()) return;
  const { n, models, highlighted } = CB.allModels(), images = `${n.toLocaleString("en").replaceAll(",", "\u202f")} image${n === 1 ? "" : "s"}`;
  if (models.length < 2) return;
  const { el, pct, num } = CB;
  const $ = (id) => document.getElementById(id);
  const { symbols, columns } = CB.allModels(), names = Object.keys(symbols), RESAMPLES = 300, MOST = Number(tool.dataset.most), EXTRA = "IJKLMN";
  const index = new Map(models.map((m, i) => [m.slug, i]));
  const parameters = new URLSearchParams(location.search), listed = (name) => (parameters.get(name) ?? "").split(",").filter((s) => index.has(s));
  let chosen = listed("models").slice(0, MOST);
  if (!chosen.length) chosen = highlighted.slice(0, 4);
  let norm = names.includes(parameters.get("norm")) ? parameters.get("norm") : names[0];
  let wanted = listed("pair"), view = (parameters.get("view") ?? "").split(",").map(Number), own = [];
  if (view.length !== 4 || !view.every(Number.isFinite)) view = null;
  const hidden = new Set(listed("hide"));
  $("cmpeach").checked = parameters.has("each");
  const title = (k) => models[index.get(own[k])].title;
  // The board's letters and colours; the others' as the board gives them to those that are chosen.
  function mark(slug) {
    const at = highlighted.indexOf(slug);
    if (at >= 0) return { letter: models[index.get(slug)].letter, style: `s${at}` };
    const extra = chosen.filter((s) => !highlighted.includes(s)).indexOf(slug);
    return { letter: EXTRA[extra], style: `s${extra} dash` };
  }
  const badgeOf = (slug) => { const { letter, style } = mark(slug); return el("span", { class: `badge ${style}` }, letter); };
  const badge = (k) => badgeOf(own[k]);
  const pairs = CB.comparePairs({ badge, title });
  const curves = CB.compareCurves({ changed: (next) => { view = next; write(); }, toggled: (slug) => { if (!hidden.delete(slug)) hidden.add(slug); return render(); } });

  function write() {
    const list = (values) => values.map(encodeURIComponent).join(","), off = chosen.filter((slug) => hidden.has(slug));
    let address = `?models=${list(chosen)}&norm=${norm}`;
    if (wanted.length === 2) address += `&pair=${list(wanted)}`;
    if (off.length) address += `&hide=${list(off)}`;
    if (view) address += `&view=${view.map((v) => Number(v.toFixed(4))).join(",")}`;
    if ($("cmpeach").checked) address += "&each";
    history.replaceState(null, "", address);
  }
  function picker() {
    $("modellist").replaceChildren(...models.filter((m) => !chosen.includes(m.slug)).map((m) => el("option", { value: m.slug }, m.title)));
    $("chosen").replaceChildren(...chosen.map((slug) => {
      const remove = el("button", { type: "button", "aria-label": `Remove ${models[index.get(slug)].title}` }, "×");
      remove.addEventListener("click", () => { chosen = chosen.filter((s) => s !== slug); render(); });
      return el("li", {}, badgeOf(slug), el("a", { href: `models/${slug}/index.html` }, models[index.get(slug)].title), remove);
    }));
    $("normtabs").replaceChildren(...names.map((name) => {
      const link = el("a", { href: `?models=${chosen.join(",")}&norm=${name}`, "aria-current": name === norm ? "page" : null }, el("b", {}, symbols[name]));
      link.addEventListener("click", (event) => { event.preventDefault(); norm = name; view = null; render(); });
      return el("li", {}, link);
    }));
  }

  let turn = 0;
  async function render() {
    const mine = ++turn;
    write();
    picker();
    const data = await CB.threat(norm), compared = chosen.filter((slug) => data.place.has(slug));
    const parts = await Promise.all(compared.map((slug) => CB.distances(slug)));
    if (mine !== turn) return; // something else was chosen meanwhile
    own = compared;
    const { g } = data, lacking = chosen.filter((slug) => !data.place.has(slug));
    const common = { xLabel: data.label, xMax: data.grid[g - 1], xTicks: data.ticks, marks: data.published, css: "board" };
    const counts = own.map((slug) => data.counts.subarray(data.place.get(slug) * g, (data.place.get(slug) + 1) * g));
    const proven = (k) => $("cmpproven").checked && parts[k].threats[norm].certified ? CB.falling(parts[k].threats[norm].certified, g) : null;
    const told = own.map((slug, k) => ({ slug, title: title(k), ...mark(slug), counts: counts[k], proven: proven(k) }));
    const several = own.length >= 2, bins = parts.map((part) => CB.u16(part.threats[norm].bins));
    $("cmpwords").replaceChildren();
    $("cmptables").replaceChildren(scores(data, own, counts));
    curves.draw(data, told, { common, hidden, view, crossings: several ? words(data, bins) : [] });
    $("cmppanels").hidden = !$("cmpeach").checked;
    if ($("cmpeach").checked) curves.panels(data, told, hidden);
    for (const part of [$("cmpgap").closest("figure"), $("cmpdifferences")]) part.hidden = !several;
    if (several) {
      const at = wanted.map((slug) => own.indexOf(slug)), pair = at.length === 2 && at.every((k) => k >= 0) && at[0] !== at[1] ? at : [0, 1];
      pairs.table(data, bins, pair, (i, j) => { wanted = [own[i], own[j]]; render(); });
      pairs.chart(data, pair, bins, common);
      pairs.samples(data, pair, bins, parts, own, norm);
    } else { $("cmpwords").append("Choose at least two models."); $("cmpsamples").replaceChildren(); }
    if (lacking.length) $("cmpwords").append(el("p", { class: "notice" }, `Not attacked in ${data.symbol}: ${lacking.map((slug) => models[index.get(slug)].title).join(", ")}.`));
  }
  // Crossings of two models cost a bootstrap: they are found once.
  const known = new Map();
  function crossingsOf(data, bins, a, b) {
    const key = [norm, own[a], own[b]].join();
    if (!known.has(key)) known.set(key, CB.crossings(bins[a], bins[b], data.grid, n));
    return known.get(key);
  }
  // The crossings in words; returns them for the chart: [position, [who is ahead after it, who is behind], what happens].
  function words(data, bins) {
    const list = el("ul", { class: "plain crossings" }), marks = [], found = [];
    for (let a = 0; a < bins.length; a++) for (let b = a + 1; b < bins.length; b++) {
      for (const x of crossingsOf(data, bins, a, b)) found.push([x, a, b]);
    }
    found.sort((s, t) => s[0].position - t[0].position || s[1] - t[1] || s[2] - t[2]);
    for (const [x, a, b] of found) {
      const [ahead, behind] = x.first ? [a, b] : [b, a];
      const name = (k) => [badge(k), " ", title(k)];
      list.append(el("li", { "data-eps": x.at }, el("b", {}, ...name(ahead)), " overtakes ", ...name(behind), ` at ε = ${num(x.at)} `, el("span", { class: "ci" }, `${num(x.low)}–${num(x.high)}`), `, in ${pct(x.support, 0)} % of the resamples`));
      marks.push([x.position, [own[ahead], own[behind]], `${title(ahead)} overtakes ${title(behind)} at ε = ${num(x.at)}`]);
    }
    $("cmpwords").replaceChildren(list.children.length ? list : el("p", {}, `No two of these models cross in this norm, as far as ${images} can tell.`));
    if (list.children.length) $("cmpwords").append(el("p", { class: "under muted" }, `Small: the interval that holds the place in 95 % of ${RESAMPLES} paired bootstrap resamples of the ${images}. Leads that fewer than 95 % of them show are left out.`));
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
      return el("tr", {}, el("th", { scope: "row" }, badge(k), " ", title(k)), ...cells.map((text) => el("td", {}, text)));
    });
    const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures" }, el("table", { class: "data" }, el("thead", {}, head), el("tbody", {}, ...rows)));
  }

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
  $("cmpeach").addEventListener("change", render);
  for (const form of ["svg", "png", "csv"]) $(`cmp${form}`).addEventListener("click", () => curves.take(form, `compare-${norm}`));
  await render();
  tool.hidden = false;
  $("comparestatic").hidden = true;
  tool.dataset.ready = "";
});
