// Where two models change their order, number for number as sitegen/crossings.py finds it: what is added up is added up in
// the same order. The samples' bins say at which position of the axis each is broken.
"use strict";
window.CB.crossings = (() => {
  const RESAMPLES = 300;
  // How often each sample is drawn in each bootstrap resample: the same for every pair, so that the resamples are paired.
  let drawn = null;
  function resamples(n) {
    if (drawn?.length === RESAMPLES * n) return drawn;
    drawn = new Uint8Array(RESAMPLES * n);
    let state = 1;
    for (let r = 0; r < RESAMPLES; r++) for (let k = 0; k < n; k++) { // mulberry32: the same address shows the same figures
      state = (state + 0x6D2B79F5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      drawn[r * n + Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * n)]++;
    }
    return drawn;
  }
  // As benchmark.statistics.crossings, at the positions of the axis: a lead is a stretch where one curve is above the other,
  // its support the share of resamples in which the area between them has the same sign there; leads with less than 95 %
  // are merged into their neighbours, and a crossing lies between two that remain.
  function crossings(a, b, grid, n) {
    const g = grid.length;
    const gap = new Float64Array(g + 1), apart = [];
    for (let s = 0; s < n; s++) if (a[s] !== b[s]) {
      const low = Math.min(a[s], b[s], g), high = Math.min(Math.max(a[s], b[s]), g), sign = a[s] > b[s] ? 1 : -1;
      if (low === high) continue;
      apart.push([s, low, high, sign]);
      gap[low] += sign; gap[high] -= sign;
    }
    for (let p = 1; p < g; p++) gap[p] += gap[p - 1];
    let leads = [];
    for (let p = 0; p + 1 < g; p++) {
      const sign = Math.sign(gap[p]), last = leads.at(-1);
      if (!sign) continue;
      const area = gap[p] * (grid[p + 1] - grid[p]);
      if (last && last.sign === sign) { last.end = p + 1; last.area += area; } else leads.push({ start: p, end: p + 1, area, sign });
    }
    const merge = (weak) => {
      if (weak === 0 || weak === leads.length - 1) { leads.splice(weak, 1); return; }
      const [before, lead, after] = leads.slice(weak - 1, weak + 2), sum = before.area + lead.area + after.area;
      leads.splice(weak - 1, 3, { start: before.start, end: after.end, area: sum * before.area <= 0 ? before.area : sum, sign: before.sign });
    };
    const least = (values) => values.reduce((best, value, k) => value < values[best] ? k : best, 0);
    while (leads.length > 128) merge(least(leads.map((lead) => Math.abs(lead.area))));
    if (leads.length < 2) return [];
    const weights = resamples(n), areas = new Float64Array(RESAMPLES * g); // area between the curves from 0 to each position
    for (let r = 0; r < RESAMPLES; r++) {
      const own = new Float64Array(g + 1);
      for (const [s, low, high, sign] of apart) { const w = sign * weights[r * n + s]; own[low] += w; own[high] -= w; }
      for (let p = 1; p < g; p++) {
        areas[r * g + p] = areas[r * g + p - 1] + own[p - 1] * (grid[p] - grid[p - 1]);
        own[p] += own[p - 1];
      }
    }
    const wins = (lead, r) => (areas[r * g + lead.end] - areas[r * g + lead.start]) * lead.sign > 0;
    const share = (...some) => { let k = 0; for (let r = 0; r < RESAMPLES; r++) if (some.every((lead) => wins(lead, r))) k++; return k / RESAMPLES; };
    for (;;) {
      const supports = leads.map((lead) => share(lead));
      if (leads.length < 2 || Math.min(...supports) >= 0.95) break;
      merge(least(supports));
    }
    return leads.slice(1).map((after, k) => {
      const before = leads[k], places = new Float64Array(RESAMPLES);
      for (let r = 0; r < RESAMPLES; r++) {
        let best = before.start;
        for (let p = before.start; p <= after.end; p++) if (areas[r * g + p] * before.sign > areas[r * g + best] * before.sign) best = p;
        places[r] = grid[best];
      }
      places.sort();
      const at = grid[after.start], quantile = (q) => places[Math.max(Math.ceil(q * RESAMPLES - 1e-9), 1) - 1];
      return { at, position: after.start, low: Math.min(quantile(0.025), at), high: Math.max(quantile(0.975), at), support: share(before, after), first: after.sign > 0 };
    });
  }
  return crossings;
})();
