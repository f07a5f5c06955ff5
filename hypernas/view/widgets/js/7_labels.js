// How many labels? A stop a size of the training set: places predicted against places in truth, one chart a method.
const CLOUD_COLOURS = ["var(--hn-red)", "var(--hn-soft)", "var(--hn-olive)"];

function cloud(method, size, data, colour, width) {
  const run = method.runs[size];
  const height = width;
  const box = { left: 40, right: width - 8, top: 14, bottom: height - 36 };
  const x = scaled(0, 1, [box.left, box.right]);
  const y = scaled(0, 1, [box.bottom, box.top]);
  const told = `${method.name}, ${size} labels: Kendall tau ${run.tau.toFixed(3)}, regret of the best of its first ten ${run.regret.toFixed(2)} points`;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${told}. Places predicted against places in truth, ${data.truth.length} cells.` });
  const axes = draw("g", { class: "hn-axes" }, draw("line", { x1: x(0), x2: x(1), y1: y(0), y2: y(0) }), draw("line", { x1: x(0), x2: x(0), y1: y(0), y2: y(1) }),
    draw("line", { x1: x(0), x2: x(1), y1: y(0), y2: y(1) }),
    draw("text", { class: "hn-axis", x: x(0.5), y: box.bottom + 26, "text-anchor": "middle" }, "in truth: worst → best"),
    draw("text", { class: "hn-axis", x: -y(0.5), y: box.left - 14, transform: "rotate(-90)", "text-anchor": "middle" }, "predicted"));
  svg.append(axes, ...data.truth.map((place, k) => draw("circle", { cx: round(x(place / 1000)), cy: round(y(run.places[k] / 1000)), r: 2, fill: colour, "fill-opacity": 0.55 })));
  svg.append(...run.first.map((place) => draw("circle", { cx: round(x(place / 1000)), cy: round(y(1)), r: 5, class: "hn-current" })));
  return make("figure", { class: "hn-chart hn-cloud", style: `width:${width}px` }, make("figcaption", {}, method.name), svg,
    make("p", { class: "hn-facts" }, make("span", {}, "Kendall tau"), make("b", { class: "hn-tau" }, run.tau.toFixed(3)),
      make("span", {}, "regret@10"), make("b", { class: "hn-regret" }, `${run.regret.toFixed(2)} points`)));
}

function labelsView(root, data) {
  const start = performance.now();
  const state = { runs: data.sizes.map((size) => ({ size })), stop: 0 };
  const said = make("p", { class: "hn-title hn-compared", "aria-live": "polite" });
  const charts = make("div", { class: "hn-charts" });
  const show = () => {
    const { size } = state.runs[state.stop];
    const room = (root.clientWidth || 640) - 18;
    const n = data.methods.length;
    const width = Math.max(200, Math.min(300, Math.floor(room < 540 ? room : (room - 12 * (n - 1)) / n)));
    const known = data.methods.filter((method) => method.runs[size]);
    const best = known.reduce((a, b) => (b.runs[size].tau > a.runs[size].tau ? b : a));
    said.textContent = `${size} labels: ${best.name} ranks best, Kendall tau ${best.runs[size].tau.toFixed(3)}; ${number(data.total)} cells are ranked.`;
    charts.replaceChildren(...data.methods.map((method, k) => (method.runs[size]
      ? cloud(method, size, data, CLOUD_COLOURS[k % 3], width) : make("p", { class: "hn-quiet" }, `${method.name}: no run with ${size} labels is kept.`))));
    root.dataset.size = size;
    controls.sync();
  };
  const controls = stopControls(state, show, "labels", (run) => `${run.size} labels`);
  root.replaceChildren(controls, said, charts);
  show();
  whenResized(root, show);
  root.dataset.drawnIn = round(performance.now() - start);
  return controls.stop;
}
