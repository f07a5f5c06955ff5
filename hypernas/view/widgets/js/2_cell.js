// The cell view: the sequence of cells, one of them as a layered graph, a legend, the notation.
const NODE = { height: 38, gapAlong: 36, gapAcross: 14 };

function labelLines(name) {
  const text = words(name);
  const at = text.length > 9 ? text.lastIndexOf(" ") : -1;
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

// Places of a cell's nodes in pixels: layers go to the right, or down where that leaves no room.
function placement(cell, room) {
  const longest = Math.max(...cell.ops.flatMap((op) => labelLines(op).map((line) => line.length)));
  const width = Math.max(56, 7 * longest + 14);
  const points = [...cell.position, ...cell.edges.flatMap((edge) => edge[3] ?? [])];
  const extent = (k) => [Math.min(...points.map((p) => p[k])), Math.max(...points.map((p) => p[k]))];
  const [[, last], [low, high]] = [extent(0), extent(1)];
  const wide = (last + 1) * (width + NODE.gapAlong);
  const tall = (high - low + 1) * (width + NODE.gapAcross);
  const down = room > 0 && wide > room && tall < 0.9 * wide;
  const along = down ? NODE.height + NODE.gapAlong : width + NODE.gapAlong;
  const across = down ? width + NODE.gapAcross : NODE.height + NODE.gapAcross;
  const size = [(last + 1) * along - NODE.gapAlong + 8, (high - low + 1) * across - NODE.gapAcross + 8];
  const half = down ? [NODE.height / 2, width / 2] : [width / 2, NODE.height / 2];
  const place = ([x, y]) => [x * along + half[0] + 4, (high - y) * across + half[1] + 4];
  return { down, width, size: down ? size.reverse() : size, half: half[0], place };
}

// A smooth line through an edge's places, level where it passes a layer, and so beside the nodes.
function edgePath(route, plan) {
  const turn = ([a, b]) => (plan.down ? `${round(b)} ${round(a)}` : `${round(a)} ${round(b)}`);
  const points = route.map(plan.place);
  const parts = [`M${turn(points[0])}`];
  for (let k = 1; k < points.length; k++) {
    const [[x, y], [x2, y2]] = [points[k - 1], points[k]];
    const [start, end] = [x + plan.half, x2 - plan.half - (k === points.length - 1 ? 6 : 0)];
    const middle = (start + end) / 2;
    parts.push(`L${turn([start, y])}C${turn([middle, y])} ${turn([middle, y2])} ${turn([end, y2])}`);
  }
  const [x, y] = points.at(-1);
  const tip = x - plan.half;
  const head = `M${turn([tip, y])}L${turn([tip - 7, y - 4])}L${turn([tip - 7, y + 4])}Z`;
  return [parts.join(""), head];
}

function drawEdge(edge, cell, plan) {
  const [i, j, count = 1, between = []] = edge;
  const route = [cell.position[i], ...between, cell.position[j]];
  const [line, head] = edgePath(route, plan);
  const group = draw("g", { class: "hn-edge", "data-from": i, "data-to": j },
    draw("path", { d: line, class: "hn-line" }), draw("path", { d: head, class: "hn-head" }));
  if (count > 1) {
    const [a, b] = [plan.place(route.at(-2)), plan.place(route.at(-1))];
    const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const [x, y] = plan.down ? [middle[1], middle[0]] : middle;
    group.append(draw("text", { x, y: y + 4, class: "hn-count" }, `×${count}`));
  }
  return group;
}

function drawNode(k, cell, plan, colour, told) {
  const [a, b] = plan.place(cell.position[k]);
  const [x, y] = plan.down ? [b, a] : [a, b];
  const lines = labelLines(cell.ops[k]);
  const text = lines.map((line, n) => draw("text", { x, y: y + 4 + 14 * (n - (lines.length - 1) / 2) }, line));
  const box = draw("rect", { x: x - plan.width / 2, y: y - NODE.height / 2, rx: 6, width: plan.width,
    height: NODE.height, fill: colour });
  const group = draw("g", { class: "hn-node", tabindex: 0, role: "img", "aria-label": told, "data-node": k,
    "data-op": cell.ops[k] }, box, ...text);
  return group;
}

// What is known of node k of the cell at a position: its operation, the shape it makes, its parameters.
function aboutNode(drawing, position, k) {
  const cell = drawing.cells[drawing.sequence[position]];
  const detail = drawing.details?.table[drawing.details.rows[position]]?.[k];
  const told = [words(cell.ops[k])];
  if (detail) {
    told.push(`makes ${detail[0]} × ${detail[1]} × ${detail[2]}`);
    told.push(detail[3] ? `${number(detail[3])} parameters` : "no parameters");
  }
  return told.join(" · ");
}

function cellGraph(drawing, position, room, tell) {
  const cell = drawing.cells[drawing.sequence[position]];
  const plan = placement(cell, room);
  const [width, height] = plan.size.map(round);
  const svg = draw("svg", { class: "hn-graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    "aria-label": `a ${cell.kind} cell of ${cell.ops.length} nodes and ${cell.edges.length} edges` });
  const edges = cell.edges.map((edge) => drawEdge(edge, cell, plan));
  svg.append(...edges);
  cell.ops.forEach((op, k) => {
    const told = aboutNode(drawing, position, k);
    const node = drawNode(k, cell, plan, drawing.operations[op], told);
    const show = (on) => () => {
      tell(on ? told : null);
      for (const edge of edges) {
        const near = edge.dataset.from == k || edge.dataset.to == k;
        edge.classList.toggle("hn-near", on && near);
      }
    };
    for (const name of ["pointerenter", "focus"]) node.addEventListener(name, show(true));
    for (const name of ["pointerleave", "blur"]) node.addEventListener(name, show(false));
    svg.append(node);
  });
  svg.style.minWidth = `${0.7 * width}px`;
  return svg;
}

function operationLegend(drawing) {
  const used = new Set(drawing.cells.flatMap((cell) => cell.ops));
  const items = Object.entries(drawing.operations).filter(([op]) => used.has(op));
  return make("ul", { class: "hn-legend", "aria-label": "operations" }, ...items.map(([op, colour]) =>
    make("li", {}, make("span", { class: "hn-swatch", style: `background:${colour}` }), words(op))));
}

function sequenceStrip(drawing, choose) {
  const buttons = drawing.sequence.map((u, position) => {
    const kind = drawing.cells[u].kind;
    const title = `cell ${position + 1} of ${drawing.sequence.length}: ${kind}`;
    return make("button", { type: "button", class: `hn-position hn-${kind}`, title, "aria-label": title,
      onclick: () => choose(position) }, String.fromCharCode(65 + (u % 26)));
  });
  const strip = make("div", { class: "hn-strip", role: "group", "aria-label": "the cells in their order" }, ...buttons);
  strip.mark = (position) => buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === position));
  return strip;
}

function cellView(root, drawing) {
  const start = performance.now();
  let position = 0;
  const about = make("p", { class: "hn-about", "aria-live": "polite" });
  const box = make("div", { class: "hn-scroll" });
  const rest = () => {
    const kind = drawing.cells[drawing.sequence[position]].kind;
    const total = drawing.sequence.length;
    return `${total > 1 ? `cell ${position + 1} of ${total}, ` : ""}${kind}; point at a node for its shape and parameters`;
  };
  const tell = (text) => {
    about.textContent = text ?? rest();
    about.classList.toggle("hn-quiet", text === null);
  };
  const strip = sequenceStrip(drawing, (k) => { position = k; redraw(); });
  const redraw = () => {
    box.replaceChildren(cellGraph(drawing, position, root.clientWidth, tell));
    strip.mark(position);
    tell(null);
  };
  const notation = drawing.notation
    ? make("div", { class: "hn-row" }, make("code", { class: "hn-notation" }, drawing.notation), copyButton(() => drawing.notation))
    : null;
  const title = drawing.title ? make("p", { class: "hn-title" }, drawing.title) : null;
  root.replaceChildren();
  fill(root, {}, [title, drawing.sequence.length > 1 ? strip : null, box, about, operationLegend(drawing), notation]);
  redraw();
  root.dataset.drawnIn = round(performance.now() - start);
  return { redraw };
}
