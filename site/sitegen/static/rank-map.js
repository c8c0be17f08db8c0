// The map of ranks follows the curves' zoom along ε; letters before the axis move along their lines.
"use strict";
window.CB.rankMap = (plot, data) => {
  const zoom = CB.zoom(plot, { end: data.grid[data.g - 1], counts: data.whole, follows: true });
  const badges = [...plot.querySelectorAll(".badge")].map((badge) => ({ badge, style: badge.getAttribute("style"), left: parseFloat(badge.style.left) / 100 }));
  // Where a line of straight pieces (whole numbers, relative moves) is at an x; null where it is not.
  function heightAt(d, x) {
    let px = 0, py = 0;
    for (const [, kind, a, b] of d.matchAll(/([Ml])(-?\d+) (-?\d+)/g)) {
      const nx = kind === "M" ? Number(a) : px + Number(a), ny = kind === "M" ? Number(b) : py + Number(b);
      if (kind === "l" && px <= x && x <= nx) return nx === px ? ny : py + (x - px) / (nx - px) * (ny - py);
      px = nx; py = ny;
    }
    return null;
  }
  function set(view) {
    zoom.set([view[0], view[1], 0, 1]);
    for (const { badge, style, left } of badges) {
      badge.setAttribute("style", style);
      if (zoom.whole()) continue;
      if (badge.classList.contains("edge")) {
        const y = heightAt(plot.querySelector(`path[data-k="${CSS.escape(badge.dataset.k)}"]`).getAttribute("d"), view[0] * CB.W);
        badge.style.top = `${y / CB.H * 100}%`;
        if (y === null || y > CB.H) badge.style.display = "none";
      } else if (zoom.within(zoom.x(left), 0)) badge.style.left = `${100 * zoom.x(left)}%`;
      else badge.style.display = "none";
    }
  }
  return { set };
};
