// A board ranked by a grid: one position at a time, and any model against all others.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const data = new Map(window.curveboard ?? []).get("grid");
  const tables = [...document.querySelectorAll(".gridtable")];
  if (!data || !tables.length) return;
  const tabs = [...document.querySelectorAll("#grid .tabs a")];
  const slider = document.getElementById("position");
  const base = document.getElementById("base");
  const notice = document.getElementById("comparing");
  const stated = new Map();
  document.querySelectorAll(".gridranks td.behind, .gridranks td.cell").forEach((td) => stated.set(td, td.innerHTML));
  document.getElementById("gridtools").hidden = false;

  const resamples = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return Array.from({ length: bytes.length / 2 }, (_, i) => (bytes[2 * i] | (bytes[2 * i + 1] << 8)) / 65535);
  };
  // numpy's quantile: linear between order statistics
  const quantile = (sorted, q) => {
    const at = q * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
  };
  const signed = (value) => {
    const text = data.share ? (100 * value).toFixed(1) : value.toPrecision(3);
    return Number(text) > 0 ? `+${text}` : Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  };
  const interval = (a, b) => {
    if (!a.drawn || !b.drawn) return "";
    const first = resamples(a.drawn), second = resamples(b.drawn);
    const gaps = first.map((v, i) => v - second[i]).sort((x, y) => x - y), gap = a.mean - b.mean;
    // No narrower than so few images can know: as benchmark/intervals.py.
    const unseen = 1 - 0.025 ** (1 / data.n), low = gap - unseen * (1 + gap), high = gap + unseen * (1 - gap);
    return `${signed(Math.min(quantile(gaps, 0.025), low))} to ${signed(Math.max(quantile(gaps, 0.975), high))}`;
  };

  // Where the slider stands, in the chart along the second axis; nowhere over all positions.
  const plot = data.along.length ? document.querySelector("#along .plot") : null;
  const cursor = document.createElement("div");
  if (plot) {
    const box = document.createElement("div");
    cursor.className = "cursor";
    box.className = "cursorbox";
    box.append(cursor);
    plot.append(box);
  }

  const show = (k) => {
    cursor.hidden = !k;
    cursor.style.transform = `translateX(${100 * (data.along[k] ?? 0)}%)`;
    tables.forEach((table, i) => { table.hidden = i !== k; });
    tabs.forEach((tab, i) => { if (i === k) tab.setAttribute("aria-current", "true"); else tab.removeAttribute("aria-current"); });
    if (!slider) return;
    slider.value = String(k);
    const name = tabs[k].textContent;
    document.getElementById("positionname").textContent = name;
    slider.setAttribute("aria-valuetext", name);
  };
  const compare = () => {
    stated.forEach((html, td) => { td.innerHTML = html; });
    const slug = base.value;
    notice.hidden = !slug;
    document.querySelectorAll(".gridranks [data-behind]").forEach((th) => { th.textContent = slug ? "difference" : "behind"; });
    if (!slug) return;
    notice.textContent = `Each cell less that of ${base.selectedOptions[0].textContent}, on the same images.`;
    data.sections.forEach((section, k) => {
      const own = section.models[slug];
      if (!own) return;
      tables[k].querySelectorAll("tr[data-slug]").forEach((tr) => {
        const other = section.models[tr.dataset.slug];
        const behind = tr.querySelector(".behind");
        if (behind && own.mean !== null && other.mean !== null) {
          behind.textContent = tr.dataset.slug === slug ? "" : `${signed(other.mean - own.mean)} `;
          const small = document.createElement("span");
          small.className = "ci";
          small.textContent = tr.dataset.slug === slug ? "" : interval(other, own);
          behind.append(small);
        } else if (behind) behind.textContent = "–";
        tr.querySelectorAll(".cell").forEach((td, i) => {
          const a = other.cells[i], b = own.cells[i];
          td.textContent = a === null || b === null ? "–" : signed(a - b);
        });
      });
    });
  };

  const state = () => new URLSearchParams(location.search);
  const keep = () => {
    const query = state();
    if (base.value) query.set("base", base.value); else query.delete("base");
    const text = query.toString();
    history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
  };
  const fromHash = () => {
    const k = tables.findIndex((table) => `#${table.id}` === location.hash);
    if (k >= 0 || !location.hash) show(Math.max(k, 0));
  };
  slider?.addEventListener("input", () => {
    show(Number(slider.value));
    history.replaceState(null, "", `${location.pathname}${location.search}#${tables[Number(slider.value)].id}`);
  });
  tabs.forEach((tab, k) => tab.addEventListener("click", (event) => {
    event.preventDefault();
    show(k);
    history.replaceState(null, "", `${location.pathname}${location.search}${tab.hash}`);
  }));
  base.addEventListener("change", () => { compare(); keep(); });
  window.addEventListener("hashchange", fromHash);
  show(0);
  fromHash();
  base.value = state().get("base") ?? "";
  if (base.selectedIndex < 0) base.value = "";
  compare();
});
