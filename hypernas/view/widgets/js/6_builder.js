// Build a cell of NAS-Bench-201: six operations chosen by clicks, the cell in three graph forms, its predicted ranks.
const FORMS = [["raw", "as written"], ["pruned", "without what does nothing"], ["contracted", "as a function"]];

// Numbers of 16 bits, little end first, as base64.
function numbersOf(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Array.from({ length: bytes.length / 2 }, (_, k) => bytes[2 * k] + 256 * bytes[2 * k + 1]);
}

// The raw graph of a cell: input, a node for each edge of the cell, output. An edge i -> j feeds every edge j -> k.
function rawGraph(edges, chosen) {
  const last = edges.length + 1;
  const target = Math.max(...edges.map(([, j]) => j));
  const counts = Array.from({ length: last + 1 }, () => Array(last + 1).fill(0));
  edges.forEach(([i, j], k) => {
    counts[0][k + 1] = +(i === 0);
    counts[k + 1][last] = +(j === target);
    edges.forEach(([from], other) => { if (from === j) counts[k + 1][other + 1] = 1; });
  });
  return { ops: ["input", ...chosen, "output"], counts };
}

// The same without some nodes.
function kept(graph, stays) {
  const places = graph.ops.map((_, k) => k).filter(stays);
  return { ops: places.map((k) => graph.ops[k]), counts: places.map((i) => places.map((j) => graph.counts[i][j])) };
}

// Which nodes can be reached, over edges that `next(i, j)` knows. Nodes stand in topological order.
function reached(order, next, start, passable) {
  const seen = new Set([start]);
  for (const j of order) if (passable(j) && order.some((i) => seen.has(i) && next(i, j))) seen.add(j);
  return seen;
}

// Without operations that hand on nothing and without nodes on no path from the input to the output.
function prunedGraph(graph) {
  const order = graph.ops.map((_, k) => k);
  const last = order.length - 1;
  const works = (k) => graph.ops[k] !== "none";
  const after = reached(order, (i, j) => graph.counts[i][j], 0, works);
  const before = reached([...order].reverse(), (i, j) => graph.counts[j][i], last, works);
  return kept(graph, (k) => k === 0 || k === last || (after.has(k) && before.has(k)));
}

// Also without skip connections: each gives its inputs' edges to its outputs, counted, so that sums stay the same.
function contractedGraph(pruned) {
  const counts = pruned.counts.map((row) => [...row]);
  pruned.ops.forEach((op, s) => {
    if (op !== "skip_connect") return;
    counts.forEach((row, i) => {
      const into = row[s];
      if (into) counts[s].forEach((out, j) => (row[j] += into * out));
      row[s] = 0;
    });
  });
  return kept({ ops: pruned.ops, counts }, (k) => pruned.ops[k] !== "skip_connect");
}

// Places for `cellGraph`: layers by the longest path, long edges with a place in each layer that they pass.
function laidOut({ ops, counts }) {
  const n = ops.length;
  const layer = Array(n).fill(0);
  for (let j = 1; j < n; j++) for (let i = 0; i < j; i++) if (counts[i][j]) layer[j] = Math.max(layer[j], layer[i] + 1);
  layer[n - 1] = Math.max(1, ...layer);
  const rows = Array.from({ length: layer[n - 1] + 1 }, () => []);
  layer.forEach((at, k) => rows[at].push({ k }));
  const chains = [];
  const neighbours = new Map();
  const joined = (a, b) => { neighbours.set(a, [...(neighbours.get(a) ?? []), b]); };
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) if (counts[i][j]) {
    const chain = [rows[layer[i]].find((item) => item.k === i)];
    for (let at = layer[i] + 1; at < layer[j]; at++) { chain.push({}); rows[at].push(chain.at(-1)); }
    chain.push(rows[layer[j]].find((item) => item.k === j));
    chain.slice(1).forEach((item, k) => { joined(item, chain[k]); joined(chain[k], item); });
    chains.push([i, j, chain]);
  }
  const settle = (row) => row.forEach((item, k) => (item.y = (row.length - 1) / 2 - k));
  rows.forEach(settle);
  // A node moves to the mean height of its neighbours; a few rounds leave almost no crossings in so small a graph.
  const mean = (item) => (neighbours.get(item) ?? [item]).reduce((sum, other, _, all) => sum + other.y / all.length, 0);
  for (let round = 0; round < 6; round++) rows.forEach((row) => {
    const heights = new Map(row.map((item) => [item, mean(item)]));
    row.sort((a, b) => heights.get(b) - heights.get(a));
    settle(row);
  });
  rows.forEach((row, x) => row.forEach((item) => (item.at = [x, item.y])));
  const position = Array(n);
  rows.flat().forEach((item) => { if (item.k !== undefined) position[item.k] = item.at; });
  const edges = chains.map(([i, j, chain]) => [i, j, counts[i][j], chain.slice(1, -1).map((item) => item.at)]);
  return { kind: "normal", ops, position, edges };
}

// The four nodes of the cell with a button on each edge; a click or Enter takes the next operation, Shift the one before.
const NODE_PLACES = [[26, 118], [150, 30], [290, 206], [414, 118]];
const EDGE_PLACES = { "0-1": 0.5, "0-2": 0.42, "1-2": 0.5, "0-3": 0.5, "1-3": 0.5, "2-3": 0.5 };

function edgeButton([i, j], op, data, turn) {
  const share = EDGE_PLACES[`${i}-${j}`];
  const [x, y] = [0, 1].map((k) => NODE_PLACES[i][k] + share * (NODE_PLACES[j][k] - NODE_PLACES[i][k]));
  const button = draw("g", { class: "hn-node hn-edge-button", tabindex: 0, role: "button",
    "aria-label": `edge ${i} to ${j}: ${words(op)}, change` },
    draw("rect", { x: x - 47, y: y - 14, width: 94, height: 28, rx: 6, fill: data.operations[op] }),
    draw("text", { x, y: y + 4 }, words(op)));
  button.addEventListener("click", (event) => turn(event.shiftKey ? -1 : 1));
  button.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    turn(event.shiftKey ? -1 : 1);
  });
  return button;
}

function cellEditor(data, chosen, changed) {
  const svg = draw("svg", { viewBox: "0 0 440 236", width: 440, height: 236, role: "group", "aria-label": "the cell: four nodes, an operation on each edge" });
  for (const [i, j] of data.edges) {
    const [[x1, y1], [x2, y2]] = [NODE_PLACES[i], NODE_PLACES[j]];
    svg.append(draw("line", { x1, y1, x2, y2, class: "hn-line" }));
  }
  NODE_PLACES.forEach(([cx, cy], k) => svg.append(draw("circle", { cx, cy, r: 15, class: "hn-hollow", stroke: "var(--hn-ink)" }),
    draw("text", { x: cx, y: cy + 4, "text-anchor": "middle" }, ["in", "1", "2", "out"][k])));
  data.edges.forEach((edge, k) => {
    const turn = (step) => {
      const at = data.choices.indexOf(chosen[k]) + step + data.choices.length;
      chosen[k] = data.choices[at % data.choices.length];
      changed(k);
    };
    svg.append(edgeButton(edge, chosen[k], data, turn));
  });
  return svg;
}

// A line from the worst to the best of all cells, with the truth above it and a prediction below.
function rankLine(place, total, colour) {
  const width = 150;
  const x = round(4 + (width - 8) * (1 - (place - 1) / (total - 1)));
  return draw("svg", { viewBox: `0 0 ${width} 16`, width, height: 16, "aria-hidden": true },
    draw("line", { x1: 4, x2: width - 4, y1: 8, y2: 8, class: "hn-line" }), draw("circle", { cx: x, cy: 8, r: 6, fill: colour }));
}

function rankTable(data, truth, code) {
  const total = data.truth.length;
  const colours = ["var(--hn-red)", "var(--hn-soft)", "var(--hn-olive)"];
  const lines = [["in truth", truth, "var(--hn-ink)", ""],
    ...data.methods.map((method, k) => {
      const place = method.places[data.functions[code]];
      const gap = place - truth;
      const told = gap === 0 ? "right" : `${number(Math.abs(gap))} places too ${gap > 0 ? "low" : "high"}`;
      return [method.name, place, colours[k % 3], told];
    })];
  const rows = lines.map(([name, place, colour, told]) => make("tr", {}, make("th", { scope: "row" }, name),
    make("td", {}, number(place)), make("td", {}, rankLine(place, total, colour)), make("td", {}, told)));
  return make("table", { class: "hn-ranks" }, make("caption", {}, `place among all ${number(total)} cells, 1 is the best; the best stand at the right`),
    make("tbody", {}, ...rows));
}

const codeOf = (data, chosen) => chosen.reduce((code, op) => code * data.choices.length + data.choices.indexOf(op), 0);
const opsOf = (data, code) => {
  const ops = [];
  for (let rest = code; ops.length < data.edges.length; rest = Math.floor(rest / data.choices.length)) ops.unshift(data.choices[rest % data.choices.length]);
  return ops;
};

function notationOf(data, chosen) {
  const into = {};
  data.edges.forEach(([i, j], k) => (into[j] ??= []).push(`${chosen[k]}~${i}`));
  return Object.values(into).map((edges) => `|${edges.join("|")}|`).join("+");
}

function builderView(root, packed) {
  const start = performance.now();
  const data = { ...packed, truth: numbersOf(packed.truth), functions: numbersOf(packed.functions),
    methods: packed.methods.map((method) => ({ ...method, places: numbersOf(method.places) })) };
  const sorted = [...data.truth].sort((a, b) => b - a);
  const first = new Map();
  sorted.forEach((accuracy, k) => { if (!first.has(accuracy)) first.set(accuracy, k + 1); });
  const place = (code) => first.get(data.truth[code]);
  const chosen = [...data.first];
  const editor = make("div", {});
  const forms = make("div", { class: "hn-forms" });
  const about = make("p", { class: "hn-about hn-quiet", "aria-live": "polite" });
  const facts = make("div", { "aria-live": "polite" });
  const told = (text) => (about.textContent = text ?? "point at a node");
  const show = (focus) => {
    const code = codeOf(data, chosen);
    editor.replaceChildren(cellEditor(data, chosen, show));
    if (focus !== undefined) editor.querySelectorAll(".hn-edge-button")[focus].focus();
    const raw = rawGraph(data.edges, chosen);
    const pruned = prunedGraph(raw);
    const graphs = [raw, pruned, contractedGraph(pruned)];
    forms.replaceChildren(...FORMS.map(([form, meaning], k) => {
      const cell = laidOut(graphs[k]);
      const drawing = { cells: [cell], sequence: [0], operations: data.operations };
      return make("figure", { class: "hn-form" }, make("figcaption", {}, `${form}: ${meaning}`),
        make("div", { class: "hn-scroll" }, cellGraph(drawing, 0, 0, told)));
    }));
    const same = data.functions.filter((f) => f === data.functions[code]).length;
    const alike = same === 1 ? "no other cell computes the same function" : `${number(same)} cells compute this function`;
    facts.replaceChildren(make("p", { class: "hn-title hn-truth" }, `${(data.truth[code] / data.steps).toFixed(2)} % in truth; ${alike}.`),
      rankTable(data, place(code), code), make("code", { class: "hn-notation" }, notationOf(data, chosen)));
    told(null);
    root.dataset.code = code;
  };
  const jump = (label, pick) => make("button", { type: "button", class: "hn-button", onclick: () => {
    chosen.splice(0, chosen.length, ...opsOf(data, pick()));
    show();
  } }, label);
  const worstMiss = () => {
    const { places } = data.methods[0];
    const gaps = data.truth.map((_, code) => Math.abs(places[data.functions[code]] - place(code)));
    return gaps.indexOf(Math.max(...gaps));
  };
  const buttons = make("div", { class: "hn-row" },
    jump("Best cell", () => data.truth.indexOf(sorted[0])),
    jump(`${data.methods[0].name}'s first choice`, () => data.functions.indexOf(data.methods[0].places.indexOf(Math.min(...data.methods[0].places)))),
    jump(`${data.methods[0].name}'s worst miss`, worstMiss),
    jump("Random", () => Math.floor(Math.random() * data.truth.length)));
  root.replaceChildren(buttons, make("div", { class: "hn-pair" }, editor, facts), forms, about, operationLegend({ operations: data.operations, cells: [{ ops: data.choices }] }));
  show();
  root.dataset.drawnIn = round(performance.now() - start);
}
