// The entry: one `render` for a live notebook and for a static page.
function galleryView(root, data) {
  let at = 0;
  const inner = make("div", { class: "hn-inner" });
  const select = make("select", { "aria-label": "architecture", class: "hn-picker", onchange: () => show(+select.value) },
    ...data.drawings.map((drawing, k) => make("option", { value: k }, drawing.title ?? `architecture ${k + 1}`)));
  const previous = stepButton("◀", "previous architecture", () => show(at - 1));
  const next = stepButton("▶", "next architecture", () => show(at + 1));
  let view;
  const show = (k) => {
    at = k;
    select.value = at;
    previous.disabled = at === 0;
    next.disabled = at === data.drawings.length - 1;
    view = cellView(inner, data.drawings.length > 1 ? { ...data.drawings[at], title: null } : data.drawings[at]);
    root.dataset.drawnIn = inner.dataset.drawnIn;
  };
  if (data.drawings.length > 1) root.append(make("div", { class: "hn-row" }, previous, select, next));
  root.append(inner);
  show(0);
  whenResized(root, () => view.redraw());
}

const VIEWS = { cell: galleryView, pareto: paretoView, explorer: explorerView, builder: builderView, labels: labelsView };

function render({ model, el }) {
  let stop = null;
  const show = () => {
    stop?.();
    stop = null;
    const root = make("div", { class: "hn" });
    el.replaceChildren(root);
    const data = model.get("data");
    root.dataset.kind = data.kind;
    try {
      if (data.sentence) sentence(root, data.sentence);
      else stop = VIEWS[data.kind](root, data, model, `hn${Math.random().toString(36).slice(2)}`);
    } catch (error) {
      sentence(root, `This view could not be drawn: ${error.message}.`);
    }
  };
  show();
  model.on("change:data", show);
  return () => {
    stop?.();
    model.off("change:data", show);
  };
}

function renderStatic(el, data) {
  render({ el, model: { get: () => data, set() {}, save_changes() {}, on() {}, off() {} } });
}
