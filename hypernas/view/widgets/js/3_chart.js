// Axes, and small charts of lines and points.
function ticksBetween(low, high, n = 5) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(+(k * step).toPrecision(12));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const m of [1, 2, 5]) ticks.push(+(m * 10 ** e).toPrecision(6));
  const inside = ticks.filter((t) => t >= low && t <= high);
  const tens = inside.filter((t) => Number.isInteger(Math.round(Math.log10(t) * 1e9) / 1e9));
  return inside.length > 6 && tens.length > 1 ? tens : inside.length > 1 ? inside : ticksBetween(low, high, 3);
}

// A scale that holds all values with a little room; `log` for positive values only.
function spanned(values, range, log = false, margin = 0.05) {
  const good = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  const to = log ? Math.log10 : (v) => v;
  let [low, high] = [Math.min(...good), Math.max(...good)].map(to);
  if (!good.length) [low, high] = [0, 1];
  if (high - low < 1e-12) [low, high] = [low - (log ? 0.3 : Math.abs(low) * 0.05 + 0.01), high + (log ? 0.3 : Math.abs(low) * 0.05 + 0.01)];
  const room = (high - low) * margin;
  return scaled(low - room, high + room, range, log);
}

function scaled(low, high, range, log = false) {
  const [to, from] = log ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
  const scale = (v) => range[0] + ((to(v) - low) / (high - low)) * (range[1] - range[0]);
  scale.invert = (p) => from(low + ((p - range[0]) / (range[1] - range[0])) * (high - low));
  scale.domain = [low, high];
  scale.ticks = (n) => (log ? logTicks(from(low), from(high)) : ticksBetween(low, high, n));
  return scale;
}

const tickText = (v) => (Math.abs(v) >= 1e6 || (v && Math.abs(v) < 1e-3) ? v.toExponential(0) : String(+v.toPrecision(4)));

function axesOf(x, y, box, xlabel, ylabel) {
  const group = draw("g", { class: "hn-axes" });
  const across = Math.max(2, Math.floor((box.right - box.left) / 75));
  for (const v of x.ticks(across)) {
    group.append(draw("line", { x1: x(v), x2: x(v), y1: box.top, y2: box.bottom }),
      draw("text", { x: x(v), y: box.bottom + 15, "text-anchor": "middle" }, tickText(v)));
  }
  for (const v of y.ticks(5)) {
    group.append(draw("line", { x1: box.left, x2: box.right, y1: y(v), y2: y(v) }),
      draw("text", { x: box.left - 6, y: y(v) + 4, "text-anchor": "end" }, tickText(v)));
  }
  group.append(draw("text", { class: "hn-axis", x: (box.left + box.right) / 2, y: box.bottom + 33, "text-anchor": "middle" }, xlabel),
    draw("text", { class: "hn-axis", x: box.left - 40, y: box.top - 10, "text-anchor": "start" }, ylabel));
  return group;
}

function drawSeries(series, x, y, index) {
  const group = draw("g", { class: "hn-series", "data-series": series.label });
  const at = (p) => `${round(x(p[0]))} ${round(y(p[1]))}`;
  const points = series.points.filter((p) => p.slice(0, 2).every(Number.isFinite));
  if (series.line && points.length) {
    const step = (p, k) => (k && series.line === "steps" ? `H${round(x(p[0]))}V${round(y(p[1]))}` : `${k ? "L" : "M"}${at(p)}`);
    group.append(draw("path", { d: points.map(step).join(""), stroke: series.colour, class: "hn-curve",
      "stroke-dasharray": series.dash }));
  }
  for (const p of series.marks ? points : []) {
    const [px, py] = [round(x(p[0])), round(y(p[1]))];
    if (p[2] !== null && p[2] !== undefined)
      group.append(draw("line", { x1: px, x2: px, y1: y(p[2]), y2: y(p[3]), stroke: series.colour, class: "hn-interval" }));
    const shape = series.hollow
      ? draw("rect", { x: px - 4.5, y: py - 4.5, width: 9, height: 9, transform: `rotate(45 ${px} ${py})`, class: "hn-hollow", stroke: series.colour })
      : draw("circle", { cx: px, cy: py, r: 4.5, fill: series.colour });
    group.append(shape);
    if (p[4]) group.append(draw("text", { x: px + 8, y: py - 7, class: "hn-point-label" }, p[4]));
  }
  group.dataset.index = index;
  return group;
}

// `spec`: title, about, xlabel, ylabel, ylog, series, current ([x, y], ringed) -> a figure with a legend.
function chart(spec, width) {
  const height = 240;
  const box = { left: 46, right: width - 14, top: 28, bottom: height - 42 };
  const all = spec.series.flatMap((s) => s.points);
  const figure = make("figure", { class: "hn-chart", style: `width:${width}px` }, make("figcaption", {}, spec.title));
  if (!all.some((p) => p.slice(0, 2).every(Number.isFinite))) {
    figure.append(make("p", { class: "hn-quiet" }, spec.empty));
    return figure;
  }
  const x = spanned(all.map((p) => p[0]), [box.left, box.right]);
  const y = spanned(all.flatMap((p) => [p[1], p[2], p[3]]), [box.bottom, box.top], spec.ylog);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${spec.title}. ${spec.about}` });
  svg.append(axesOf(x, y, box, spec.xlabel, spec.ylabel), ...spec.series.map((s, k) => drawSeries(s, x, y, k)));
  if (spec.current?.every(Number.isFinite))
    svg.append(draw("circle", { class: "hn-current", cx: round(x(spec.current[0])), cy: round(y(spec.current[1])), r: 9 }));
  const legend = spec.series.filter((s) => s.points.length && !s.silent).map((s) =>
    make("li", {}, make("span", { class: `hn-swatch${s.hollow ? " hn-open" : ""}`, style: `--c:${s.colour}` }), s.label));
  figure.append(svg, make("ul", { class: "hn-legend" }, ...legend));
  return figure;
}
