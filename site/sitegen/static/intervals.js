// Clopper–Pearson intervals, as benchmark.curve.proportion_interval gives them.
"use strict";
window.CB.interval = (() => {
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
  return interval;
})();
