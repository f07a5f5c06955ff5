// Elements, numbers and the clipboard: what every view uses.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
const round = (x) => Math.round(x * 10) / 10;

function number(x) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  if (Number.isInteger(x)) return x.toLocaleString("en-US");
  const size = Math.abs(x);
  return size >= 100 ? x.toFixed(1) : size >= 1 ? x.toFixed(2) : size >= 0.001 ? x.toFixed(3) : x.toPrecision(2);
}

const words = (name) => String(name).replaceAll("_", " ");

function sentence(root, text) {
  root.replaceChildren(make("p", { class: "hn-sentence", role: "alert" }, text));
}

function copiedByHand(text) {
  const area = make("textarea", { style: "position:fixed;opacity:0" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text);
  }
}

function copyButton(text) {
  const button = make("button", { type: "button", class: "hn-button hn-copy" }, "Copy notation");
  button.addEventListener("click", async () => {
    const done = await copied(text());
    button.textContent = done ? "Copied" : "Select the text and copy it";
    button.dataset.copied = done;
    button.focus();
    setTimeout(() => (button.textContent = "Copy notation"), 2000);
  });
  return button;
}

function stepButton(label, title, onclick) {
  return make("button", { type: "button", class: "hn-button", title, "aria-label": title, onclick }, label);
}

// Redraw when the width a view has got changes by more than a little.
function whenResized(root, redraw) {
  if (!window.ResizeObserver) return;
  let width = root.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(root.clientWidth - width) < 8) return;
    width = root.clientWidth;
    redraw();
  }).observe(root);
}
