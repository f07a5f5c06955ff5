// The Pareto view: points, the front, brush and zoom, and the cell of the point one looks at.
const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

// Architectures are sent as what differs between those of one graph; `packing.py` is the other side.
function unpacked(data, i) {
  const code = data.drawn?.[i];
  if (typeof code !== "string") return null;
  const [ops, g = 0, t = 0] = code.split(":");
  const graph = data.graphs[+g || 0];
  const names = Object.keys(graph.operations);
  const cells = graph.cells.map((cell) => ({ ...cell, ops: [...cell.ops] }));
  let notation = graph.templates[+t || 0];
  graph.vary.forEach(([u, k], n) => {
    cells[u].ops[k] = names[DIGITS.indexOf(ops[n])];
    notation = notation.replace("{}", () => cells[u].ops[k]);
  });
  return { ...graph, cells, notation };
}

function nearest(state, px, py, within = 30) {
  let [best, distance] = [-1, within * within];
  for (let i = 0; i < state.px.length; i++) {
    const d = (state.px[i] - px) ** 2 + (state.py[i] - py) ** 2;
    if (d < distance && state.inside(i)) [best, distance] = [i, d];
  }
  return best;
}

function paretoPlot(view) {
  const { data, svg, state } = view;
  const width = Math.max(300, view.plot.clientWidth || 640);
  const height = Math.min(420, Math.max(300, width * 0.6));
  const box = { left: 50, right: width - 12, top: 28, bottom: height - 42 };
  const [x0, x1, y0, y1] = state.zoom;
  const x = scaled(x0, x1, [box.left, box.right], data.xlog);
  const y = scaled(y0, y1, [box.bottom, box.top]);
  Object.assign(state, { x, y, box, px: data.x.map(x), py: data.y.map(y) });
  fill(svg, { viewBox: `0 0 ${width} ${height}`, width, height }, []);
  state.inside = (i) => state.px[i] >= box.left - 1 && state.px[i] <= box.right + 1 &&
    state.py[i] >= box.top - 1 && state.py[i] <= box.bottom + 1;
  const shown = data.x.map((_, i) => i).filter(state.inside);
  const onFront = new Set(data.front);
  view.circles = new Map(shown.map((i) => [i, draw("circle", { cx: round(state.px[i]), cy: round(state.py[i]),
    r: onFront.has(i) ? 5 : 3.5, class: onFront.has(i) ? "hn-dot hn-best" : "hn-dot", "data-point": i })]));
  const steps = data.front.map((i, k) => {
    const [px, py] = [round(state.px[i]), round(state.py[i])];
    return k ? `H${px}V${py}` : `M${px} ${py}`;
  });
  const clip = `${view.id}-clip`;
  const inside = draw("g", { "clip-path": `url(#${clip})` }, draw("path", { d: steps.join(""), class: "hn-front" }));
  view.brush = draw("rect", { class: "hn-brush", visibility: "hidden" });
  view.ring = draw("circle", { class: "hn-current", r: 9, visibility: "hidden" });
  svg.replaceChildren(
    draw("clipPath", { id: clip }, draw("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top })),
    axesOf(x, y, box, data.xlabel, data.ylabel), inside, ...view.circles.values(), view.brush, view.ring);
  view.mark();
}

function paretoState(data) {
  const to = data.xlog ? Math.log10 : (v) => v;
  const x = spanned(data.x, [0, 1], data.xlog);
  const y = spanned(data.y, [0, 1]);
  const whole = [...x.domain, ...y.domain];
  const order = data.x.map((_, i) => i).sort((a, b) => data.x[a] - data.x[b] || data.y[a] - data.y[b]);
  return { whole, zoom: [...whole], order, to, at: -1, pinned: -1, chosen: new Set() };
}

// What moves the marks: `look` at a point, `pin` it, `select` those in a rectangle.
function paretoActions(view) {
  const { data, state } = view;
  const told = view.told = (i) => [data.names?.[i] ?? `point ${i + 1}`, `${data.xlabel} ${number(data.x[i])}`,
    `${data.ylabel} ${number(data.y[i])}`, data.front.includes(i) ? "on the front" : null].filter(Boolean).join(" · ");
  view.mark = () => {
    const i = state.at;
    for (const [k, circle] of view.circles) circle.classList.toggle("hn-chosen", state.chosen.has(k));
    view.svg.classList.toggle("hn-selecting", state.chosen.size > 0);
    view.ring.setAttribute("visibility", i >= 0 && state.inside(i) ? "visible" : "hidden");
    if (i >= 0) fill(view.ring, { cx: round(state.px[i]), cy: round(state.py[i]) }, []);
    view.ring.classList.toggle("hn-pinned", i >= 0 && i === state.pinned);
  };
  view.look = (i) => {
    if (i === state.at || (i < 0 && state.pinned < 0)) return;
    state.at = i < 0 ? state.pinned : i;
    view.about.textContent = told(state.at) + (state.at === state.pinned ? " · pinned" : "");
    view.mark();
    if (state.pinned < 0 || state.pinned === state.at) view.showCell(state.at);
  };
  view.pin = (i) => {
    state.pinned = state.pinned === i ? -1 : i;
    state.at = -1;
    view.look(i);
    view.model?.set("selected", state.pinned);
    view.model?.save_changes();
  };
  view.select = (left, right, top, bottom) => {
    const inside = (i) => state.inside(i) && state.px[i] >= left && state.px[i] <= right && state.py[i] >= top && state.py[i] <= bottom;
    state.chosen = new Set(data.x.map((_, i) => i).filter(inside));
    const best = [...state.chosen].reduce((a, b) => (a < 0 || data.y[b] > data.y[a] ? b : a), -1);
    view.about.textContent = `${state.chosen.size} of ${data.x.length} points selected` +
      (best >= 0 ? `; best ${data.ylabel} ${number(data.y[best])}` : "");
    view.toSelection.disabled = state.chosen.size === 0;
    view.mark();
  };
}

function paretoZoom(view) {
  const { data, state } = view;
  view.zoomTo = (zoom) => { state.zoom = zoom; paretoPlot(view); };
  view.zoomBy = (factor) => {
    const [a, b, c, d] = state.zoom;
    const i = state.at;
    const [mx, my] = i >= 0 ? [state.to(data.x[i]), data.y[i]] : [(a + b) / 2, (c + d) / 2];
    view.zoomTo([mx - (mx - a) * factor, mx + (b - mx) * factor, my - (my - c) * factor, my + (d - my) * factor]);
  };
}

function paretoPointer(view) {
  const { svg, state } = view;
  const where = (event) => {
    const size = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / size.width;
    return [(event.clientX - size.left) * scale, (event.clientY - size.top) * scale];
  };
  let from = null;
  const sides = ([x, y]) => [Math.min(x, from[0]), Math.max(x, from[0]), Math.min(y, from[1]), Math.max(y, from[1])];
  svg.addEventListener("pointerdown", (event) => { from = where(event); svg.setPointerCapture?.(event.pointerId); });
  svg.addEventListener("pointermove", (event) => {
    const start = performance.now();
    const to = where(event);
    if (!from) {
      view.look(nearest(state, ...to));
      svg.dataset.hoverTook = round(performance.now() - start);
    } else if (Math.hypot(to[0] - from[0], to[1] - from[1]) > 5) {
      const [left, right, top, bottom] = sides(to);
      fill(view.brush, { x: left, y: top, width: right - left, height: bottom - top, visibility: "visible" }, []);
    }
  });
  svg.addEventListener("pointerup", (event) => {
    if (!from) return;
    const to = where(event);
    const dragged = Math.hypot(to[0] - from[0], to[1] - from[1]) > 5;
    if (dragged) view.select(...sides(to));
    else { const i = nearest(state, ...to); if (i >= 0) view.pin(i); }
    from = null;
    view.brush.setAttribute("visibility", "hidden");
  });
  svg.addEventListener("pointercancel", () => { from = null; view.brush.setAttribute("visibility", "hidden"); });
  svg.addEventListener("pointerleave", () => { if (!from) view.look(-1); });
}

function paretoKeys(view) {
  const { data, state } = view;
  const along = (list, by) => {
    const k = list.indexOf(state.at);
    const next = k < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(list.length - 1, Math.max(0, k + by));
    view.look(list[next]);
  };
  const keys = {
    ArrowRight: () => along(state.order, 1), ArrowLeft: () => along(state.order, -1),
    ArrowUp: () => along(data.front, 1), ArrowDown: () => along(data.front, -1),
    Home: () => view.look(state.order[0]), End: () => view.look(state.order.at(-1)),
    Enter: () => state.at >= 0 && view.pin(state.at), " ": () => state.at >= 0 && view.pin(state.at),
    "+": () => view.zoomBy(0.6), "=": () => view.zoomBy(0.6), "-": () => view.zoomBy(1 / 0.6), 0: () => view.reset(),
    Escape: () => { if (state.pinned >= 0) view.pin(state.pinned); },
  };
  view.svg.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });
}

function paretoControls(view) {
  const { data, state } = view;
  view.reset = () => {
    state.chosen = new Set();
    view.toSelection.disabled = true;
    view.zoomTo([...state.whole]);
  };
  const toSelection = () => {
    const chosen = [...state.chosen];
    const x = spanned(chosen.map((i) => data.x[i]), [0, 1], data.xlog);
    const y = spanned(chosen.map((i) => data.y[i]), [0, 1]);
    view.zoomTo([...x.domain, ...y.domain]);
  };
  view.toSelection = make("button", { type: "button", class: "hn-button hn-to-selection", disabled: "" , onclick: toSelection }, "Zoom to selection");
  return make("div", { class: "hn-row" }, stepButton("+", "zoom in", () => view.zoomBy(0.6)),
    stepButton("−", "zoom out", () => view.zoomBy(1 / 0.6)), view.toSelection,
    stepButton("Reset", "show all points", () => view.reset()));
}

function paretoView(root, data, model, id) {
  const start = performance.now();
  const view = { data, model, id, state: paretoState(data) };
  view.svg = draw("svg", { class: "hn-pareto", tabindex: 0, role: "application", "aria-label":
    `${data.x.length} points, ${data.ylabel} against ${data.xlabel}, ${data.front.length} on the front. ` +
    "Arrow keys left and right go from point to point, up and down along the front, Enter pins, plus and minus zoom." });
  view.plot = make("div", { class: "hn-plot" }, view.svg);
  view.about = make("p", { class: "hn-about", "aria-live": "polite" }, "point at a dot, or use the arrow keys; drag to select");
  view.cell = make("div", { class: "hn-linked" });
  view.showCell = (i) => {
    const drawing = unpacked(data, i);
    if (drawing) cellView(view.cell, drawing);
    else view.cell.replaceChildren(make("p", { class: "hn-quiet" }, data.graphs?.length ? "The cell of this point was left out to keep the page small." : ""));
  };
  paretoActions(view);
  paretoZoom(view);
  const controls = paretoControls(view);
  const legend = make("ul", { class: "hn-legend" }, make("li", {}, make("span", { class: "hn-swatch hn-best-key" }), "not dominated"),
    make("li", {}, make("span", { class: "hn-swatch hn-dot-key" }), `other points (${number(data.x.length - data.front.length)})`));
  root.replaceChildren();
  const beside = make("div", { class: "hn-beside" }, view.about, view.cell);
  const both = make("div", { class: data.graphs?.length ? "hn-pair" : "" }, make("div", {}, view.plot, legend), beside);
  fill(root, {}, [data.title ? make("p", { class: "hn-title" }, data.title) : null, controls, both]);
  paretoPlot(view);
  paretoPointer(view);
  paretoKeys(view);
  // Until somebody points at a dot the best one stands for all.
  const best = data.front.reduce((a, b) => (data.y[b] > data.y[a] ? b : a));
  view.about.textContent = `best: ${view.told(best)}. ${view.about.textContent}`;
  const shown = () => [view.state.pinned, view.state.at, best].find((i) => i >= 0);
  view.showCell(shown());
  whenResized(root, () => {
    paretoPlot(view);
    view.showCell(shown());
  });
  root.dataset.drawnIn = round(performance.now() - start);
}
