// Zoom and pan of a chart of curves: drag, wheel, keys, buttons, two fingers. A view is [left, right, top, bottom] in shares of the
// whole plot; the SVG shows it by its viewBox, so that no line is drawn anew, and ticks and grid follow in round steps.
"use strict";
window.CB.zoom = (() => {
  const MOST = 16, CLICK = 5, THIN = 14; // largest magnification; pixels below which a drag is a click, a band is a line
  const ALL = [0, 1, 0, 1];
  const nice = (value) => {
    const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
    return Math.max(...[1, 2, 2.5, 5].filter((f) => f * power <= value * (1 + 1e-9))) * power;
  };
  function ticks(low, high, counts = false) {
    const near = nice((high - low) / 4), step = counts ? Math.max(Math.floor(near), 1) : near, found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) found.push(Number((k * step).toPrecision(8)));
    return found;
  }
  // Both ends of a range inside 0…1, with a width of at least 1 / MOST.
  function fitted(low, high) {
    const width = Math.min(Math.max(high - low, 1 / MOST), 1), middle = (low + high) / 2;
    const left = Math.min(Math.max(middle - width / 2, 0), 1 - width);
    return [left, left + width].map((v) => Number(v.toFixed(9)));
  }

  // plot: a chart's .plot. end: where its x axis ends. counts: whether it has whole numbers only. follows: without controls of its own. handles(event): where somebody
  // else takes the drag, what undoes it. click(event): a drag that did not move. changed(view): after each change.
  return (plot, { end, counts = false, follows = false, handles = () => null, click = () => {}, changed = () => {} }) => {
    const { el, W, H } = CB;
    const picture = plot.querySelector("svg"), grid = picture.querySelector(".grid");
    const served = { x: [...plot.querySelectorAll(".xt")], y: [...plot.querySelectorAll(".yt")], grid: grid.getAttribute("d") };
    const fingers = new Map(); // of each that touches the plot, its last event
    let view = ALL, reset = null, undo = null;
    const whole = () => view.every((v, k) => v === ALL[k]);
    const x = (share) => (share - view[0]) / (view[1] - view[0]), y = (share) => (share - view[2]) / (view[3] - view[2]);
    const within = (px, py) => px >= -1e-9 && px <= 1 + 1e-9 && py >= -1e-9 && py <= 1 + 1e-9;

    function axes() {
      for (const tick of plot.querySelectorAll(".xt[data-added], .yt[data-added]")) tick.remove();
      const wholeX = view[0] === 0 && view[1] === 1, wholeY = view[2] === 0 && view[3] === 1;
      for (const tick of served.x) tick.hidden = !wholeX;
      for (const tick of served.y) tick.hidden = !wholeY;
      if (whole()) { grid.setAttribute("d", served.grid); return; }
      const [left, , top] = view, wide = (view[1] - left) * W, high = (view[3] - top) * H;
      let d = "";
      const across = wholeY ? served.y.map((tick) => parseFloat(tick.style.top) / 100) : ticks(100 * (1 - view[3]), 100 * (1 - top)).map((v) => [1 - v / 100, v]).map(([at, v]) => {
        plot.append(el("span", { class: "yt", "data-added": "", style: `top:${100 * y(at)}%` }, v ? `${v} %` : "0"));
        return at;
      });
      for (const at of across) d += `M${left * W} ${at * H}h${wide}`;
      if (!wholeX) for (const v of ticks(left * end, view[1] * end, counts)) {
        plot.append(el("span", { class: "xt", "data-added": "", style: `left:${100 * x(v / end)}%` }, String(v)));
        d += `M${v / end * W} ${view[3] * H}v${-high * 0.02}`;
      }
      grid.setAttribute("d", d);
    }
    function set(next) {
      view = [...fitted(next[0], next[1]), ...fitted(next[2], next[3])];
      const [left, right, top, bottom] = view;
      picture.setAttribute("viewBox", [left * W, top * H, (right - left) * W, (bottom - top) * H].join(" "));
      picture.style.overflow = whole() ? "" : "hidden";
      axes();
      if (reset) reset.hidden = whole();
      plot.classList.toggle("zoomed", !whole());
      plot.classList.toggle("tall", bottom - top < 1); // only then a finger that moves up or down moves the chart, not the page
      changed(view);
    }
    const by = (factor, cx, cy) => set([cx - (cx - view[0]) * factor, cx + (view[1] - cx) * factor, cy - (cy - view[2]) * factor, cy + (view[3] - cy) * factor]);
    const pan = (dx, dy, from = view) => set([from[0] + dx, from[1] + dx, from[2] + dy, from[3] + dy]);
    const middle = () => [(view[0] + view[1]) / 2, (view[2] + view[3]) / 2];

    function drag(event) {
      if (event.button) return;
      undo = handles(event);
      if (undo || (event.pointerType === "touch" && whole())) return;
      const box = plot.getBoundingClientRect(), begun = view, panning = !whole() && !event.shiftKey;
      let band = null, last = event;
      const moved = () => Math.hypot(last.clientX - event.clientX, last.clientY - event.clientY) >= CLICK;
      plot.setPointerCapture(event.pointerId);
      // The rectangle in pixels; a thin one spans the whole height or width.
      function rectangle() {
        const ends = (a, b, length) => [Math.min(a, b), Math.max(a, b)].map((v) => Math.min(Math.max(v, 0), length));
        let across = ends(event.clientX - box.left, last.clientX - box.left, box.width), down = ends(event.clientY - box.top, last.clientY - box.top, box.height);
        if (down[1] - down[0] < THIN) down = [0, box.height];
        else if (across[1] - across[0] < THIN) across = [0, box.width];
        return [...across, ...down];
      }
      plot.onpointermove = (e) => {
        last = e;
        if (!moved()) return;
        if (panning) { pan((event.clientX - e.clientX) / box.width * (begun[1] - begun[0]), (event.clientY - e.clientY) / box.height * (begun[3] - begun[2]), begun); return; }
        if (!band) plot.append(band = el("div", { class: "zoomband", "data-added": "" }));
        const [left, right, top, bottom] = rectangle();
        band.style.cssText = `left:${left}px;top:${top}px;width:${right - left}px;height:${bottom - top}px`;
      };
      const finish = () => { plot.onpointermove = plot.onpointerup = plot.onpointercancel = null; band?.remove(); };
      plot.onpointercancel = undo = finish;
      plot.onpointerup = (e) => {
        last = e;
        finish();
        if (!moved()) { click(event); return; }
        if (panning) return;
        const [left, right, top, bottom] = rectangle(), wide = (view[1] - view[0]) / box.width, high = (view[3] - view[2]) / box.height;
        set([view[0] + left * wide, view[0] + right * wide, view[2] + top * high, view[2] + bottom * high]);
      };
    }
    // Two fingers zoom by how far they part, and move what is between them.
    function pinch() {
      const box = plot.getBoundingClientRect(), begun = view, ids = [...fingers.keys()];
      const measured = () => {
        const [a, b] = ids.map((id) => fingers.get(id));
        return { at: [((a.clientX + b.clientX) / 2 - box.left) / box.width, ((a.clientY + b.clientY) / 2 - box.top) / box.height], gap: Math.max(Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), 1) };
      };
      const start = measured();
      plot.onpointermove = (event) => {
        if (!fingers.has(event.pointerId)) return;
        fingers.set(event.pointerId, event);
        const now = measured();
        set([0, 1].flatMap((k) => {
          const low = begun[2 * k], width = begun[2 * k + 1] - low, next = Math.min(Math.max(width * start.gap / now.gap, 1 / MOST), 1);
          const left = low + start.at[k] * width - now.at[k] * next;
          return [left, left + next];
        }));
      };
      plot.onpointerup = plot.onpointercancel = () => { plot.onpointermove = plot.onpointerup = plot.onpointercancel = null; };
    }
    function down(event) {
      if (event.pointerType !== "touch") { drag(event); return; }
      fingers.set(event.pointerId, event);
      plot.setPointerCapture(event.pointerId);
      if (fingers.size === 1) drag(event);
      else if (fingers.size === 2) { undo?.(); undo = null; pinch(); }
    }
    // The wheel scrolls the page unless it is meant for the chart: with Ctrl or ⌘ (a pinch on a touchpad), or where the keyboard
    // has led to the chart.
    function wheel(event) {
      if (!event.ctrlKey && !event.metaKey && !plot.matches(":focus-visible")) return;
      event.preventDefault();
      const box = plot.getBoundingClientRect(), px = (event.clientX - box.left) / box.width, py = (event.clientY - box.top) / box.height;
      by(Math.exp(Math.min(Math.max(event.deltaY, -120), 120) / 400), view[0] + px * (view[1] - view[0]), view[2] + py * (view[3] - view[2]));
    }
    function key(event) {
      if (event.target !== plot || event.ctrlKey || event.metaKey || event.altKey) return;
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "+" || event.key === "=") by(0.7, ...middle());
      else if (event.key === "-") by(1 / 0.7, ...middle());
      else if (event.key === "0" || event.key === "Escape") set(ALL);
      else if (steps && !whole()) pan(steps[0] * (view[1] - view[0]) / 8, steps[1] * (view[3] - view[2]) / 8);
      else return;
      event.preventDefault();
    }
    if (!follows) {
      const id = `zoom-${plot.parentNode.parentNode.id}`, help = el("span", { class: "sr", id }, "Plus and minus zoom, arrows move what is seen, 0 shows the whole chart again");
      const button = (text, name, act) => { const b = el("button", { type: "button", title: name, "aria-label": name }, text); b.addEventListener("click", act); return b; };
      reset = button("Reset zoom", "Show the whole chart", () => { set(ALL); plot.focus({ preventScroll: true }); });
      reset.hidden = true;
      plot.before(el("div", { class: "zoomtools", "data-added": "" }, help, reset, button("+", "Zoom in (also: drag, Ctrl and wheel)", () => by(0.7, ...middle())), button("−", "Zoom out", () => by(1 / 0.7, ...middle()))));
      plot.tabIndex = 0;
      plot.setAttribute("role", "group");
      plot.setAttribute("aria-labelledby", id);
      plot.classList.add("zoomable");
      plot.addEventListener("pointerdown", down);
      for (const name of ["pointerup", "pointercancel"]) plot.addEventListener(name, (event) => fingers.delete(event.pointerId));
      for (const name of ["touchstart", "touchmove"]) plot.addEventListener(name, (event) => { if (event.touches.length > 1 && event.cancelable) event.preventDefault(); }, { passive: false });
      plot.addEventListener("wheel", wheel, { passive: false });
      plot.addEventListener("keydown", key);
    }
    const back = (share) => view[0] + share * (view[1] - view[0]);
    return { set, whole, x, y, within, back, get view() { return view; } };
  };
})();

// A legend whose entries hide and show what they name; under the pointer or in focus, they lift it.
window.CB.legend = (list, { hidden, toggle, heat }) => {
  for (const item of list.children) {
    const key = item.dataset.k;
    let button = item.querySelector("button");
    if (!button) {
      button = CB.el("button", { type: "button", title: "Hide or show" });
      button.append(...item.childNodes);
      item.append(button);
      button.addEventListener("click", () => toggle(key));
      for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => heat(key));
      for (const name of ["pointerleave", "blur"]) button.addEventListener(name, () => heat(null));
    }
    button.setAttribute("aria-pressed", String(!hidden.has(key)));
  }
};
