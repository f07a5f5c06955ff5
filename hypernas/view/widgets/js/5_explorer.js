// The q explorer: one stop a value of q, with the curves, the weights, tau, and the trade-off of that run.
const TASKS = { pred: ["prediction", "var(--hn-blue)"], hyper: ["hypernetwork", "var(--hn-red)"] };
const AXES = { space: "search space", n_train: "n_train", images: "auxiliary images", reading: "reading", u: "task weights" };

const runsOf = (data, chosen) =>
  data.runs.filter((run) => Object.keys(AXES).every((name) => String(run[name]) === String(chosen[name])))
    .sort((a, b) => a.q - b.q || a.live - b.live || a.order - b.order);

function curveChart(run, prefix, width) {
  const curves = run.curves ?? {};
  const series = Object.entries(TASKS).filter(([task]) => curves[`${prefix}_${task}`]).map(([task, [label, colour]]) => ({
    label, colour, line: "plain", dash: task === "hyper" ? "6 3" : null,
    points: curves.epoch.map((epoch, k) => [epoch, curves[`${prefix}_${task}`][k]]),
  }));
  const ends = series.map((s) => `${s.label} ends at ${number(s.points.at(-1)[1])}`).join(", ");
  const loss = prefix === "loss";
  return chart({ title: loss ? "Losses of both tasks" : "Task weights 1/(2u²)", about: ends, xlabel: "epoch",
    ylabel: loss ? "loss" : "weight", ylog: true, series, empty: "These runs recorded no curves." }, width);
}

function pointSeries(runs, place) {
  const kinds = [["recorded", false, "var(--hn-ink)"], ["trained here", true, "var(--hn-green)"]];
  return kinds.map(([label, live, colour]) => ({
    label, colour, hollow: live, marks: true,
    points: runs.filter((run) => run.live === live).map(place),
  }));
}

function tauChart(runs, run, width) {
  const series = pointSeries(runs, (r) => [r.q, r.tau, r.tau_low, r.tau_high]);
  return chart({ title: "Kendall tau against q", about: `tau ${number(run.tau)} at q ${number(run.q)}`, xlabel: "q",
    ylabel: "Kendall tau, 95 % interval", series, current: [run.q, run.tau], empty: "No tau was recorded." }, width);
}

function tradeOffChart(runs, run, width) {
  const known = runs.filter((r) => Number.isFinite(r.target_accuracy) && Number.isFinite(r.tau));
  const front = known.filter((r) => !known.some((o) => o !== r && o.tau >= r.tau && o.target_accuracy >= r.target_accuracy &&
    (o.tau > r.tau || o.target_accuracy > r.target_accuracy))).sort((a, b) => a.target_accuracy - b.target_accuracy);
  const line = { label: "front: no other q is better at both", colour: "var(--hn-red)", line: "plain",
    points: front.map((r) => [r.target_accuracy, r.tau]) };
  const points = pointSeries(known, (r) => [r.target_accuracy, r.tau, null, null, `${r.q}`]);
  const on = front.includes(run) ? "on the front" : "not on the front";
  return chart({ title: "Both tasks: the front over q", about: `q ${number(run.q)} is ${on}`, xlabel: "accuracy of target networks, %",
    ylabel: "Kendall tau", series: [line, ...points], current: [run.target_accuracy, run.tau],
    empty: "No accuracy of the target network was recorded." }, width);
}

function runFacts(run) {
  const seeds = `${run.seeds} ${run.seeds === 1 ? "seed" : "seeds"}`;
  const interval = Number.isFinite(run.tau_low) && run.tau_low !== null ? ` [${number(run.tau_low)}, ${number(run.tau_high)}]` : " (no interval from one seed)";
  const facts = [["q", number(run.q)], ["Kendall tau", number(run.tau) + interval],
    ["target networks' accuracy", run.target_accuracy === null ? "–" : `${number(run.target_accuracy)} %`],
    ["run", `${run.live ? "trained here" : "recorded"}, ${seeds}${run.epochs ? `, ${run.epochs} epochs` : ""}${run.seconds === null ? "" : `, ${number(run.seconds)} s`}`]];
  return make("div", { class: "hn-facts" }, ...facts.map(([name, value]) => make("div", {}, make("span", {}, name), make("b", {}, value))));
}

function choiceBoxes(data, chosen, changed) {
  return Object.entries(AXES).map(([name, label]) => {
    const values = [...new Set(data.runs.map((run) => String(run[name])))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const select = make("select", { "data-choice": name, disabled: values.length < 2 ? "" : null },
      ...values.map((value) => make("option", { value }, words(value))));
    select.value = chosen[name];
    select.addEventListener("change", () => { chosen[name] = select.value; changed(name); });
    return make("label", {}, make("span", {}, label), select);
  });
}

// Not every choice has runs for every other: keep the one just made and take the nearest that exists.
function possible(data, chosen, kept) {
  if (runsOf(data, chosen).length) return chosen;
  const names = Object.keys(AXES);
  const score = (run) => names.filter((name) => String(run[name]) === String(chosen[name])).length +
    (kept && String(run[kept]) === String(chosen[kept]) ? 10 : 0);
  const best = data.runs.reduce((a, b) => (score(b) > score(a) ? b : a));
  return Object.fromEntries(names.map((name) => [name, String(best[name])]));
}

function stopControls(state, show, what = "q", told = (run) => `q ${number(run.q)}`) {
  const slider = make("input", { type: "range", min: 0, step: 1, class: "hn-slider", "aria-label": what });
  const play = stepButton("▶ Play", "play", () => (state.timer ? stop() : begin()));
  const go = (k) => { state.stop = Math.max(0, Math.min(state.runs.length - 1, k)); show(); };
  const stop = () => { clearInterval(state.timer); state.timer = null; play.textContent = "▶ Play"; };
  const begin = () => {
    if (state.stop >= state.runs.length - 1) go(0);
    play.textContent = "❚❚ Pause";
    state.timer = setInterval(() => {
      if (state.stop >= state.runs.length - 1 || !slider.isConnected) stop();
      else go(state.stop + 1);
    }, 900);
  };
  slider.addEventListener("input", () => { stop(); go(+slider.value); });
  for (const name of ["keydown", "pointerdown"]) slider.addEventListener(name, (event) => event.stopPropagation());
  const previous = stepButton("◀", `previous ${what}`, () => { stop(); go(state.stop - 1); });
  const next = stepButton("▶", `next ${what}`, () => { stop(); go(state.stop + 1); });
  play.classList.add("hn-play");
  const row = make("div", { class: "hn-row" }, previous, slider, next, play);
  row.sync = () => {
    slider.max = state.runs.length - 1;
    slider.value = state.stop;
    const run = state.runs[state.stop];
    slider.setAttribute("aria-valuetext", told(run));
    previous.disabled = state.stop === 0;
    next.disabled = state.stop === state.runs.length - 1;
  };
  row.stop = stop;
  return row;
}

/* A stop in words: what its tau is worth beside the same predictor without a hypernetwork. */
function comparedWith(run) {
  if (!run.pairs || run.tau === null) return "";
  const sign = run.gain < 0 ? "\u2212" : "+";
  const seeds = (n) => (n === 1 ? "1 seed" : `${n} seeds`);
  return `At q = ${number(run.q)} Kendall tau is ${run.tau.toFixed(3)} (${seeds(run.seeds)}), ` +
    `${sign}${Math.abs(run.gain).toFixed(3)} against HyperNAS-P, which has no hypernetwork, on the same ${seeds(run.pairs)}.`;
}

function explorerView(root, data, model) {
  const start = performance.now();
  const newest = data.newest === null ? null : data.runs[data.newest];
  const first = newest ?? data.runs.find((run) => run.q === 1.5 && run.reading === "printed") ?? data.runs[0];
  let chosen = Object.fromEntries(Object.keys(AXES).map((name) => [name, String(first[name])]));
  const state = { runs: runsOf(data, chosen), timer: null };
  state.stop = Math.max(0, state.runs.indexOf(first));
  const charts = make("div", { class: "hn-charts" });
  const facts = make("div", { "aria-live": "polite" });
  const said = make("p", { class: "hn-title hn-compared", "aria-live": "polite" });
  const choices = make("div", { class: "hn-choices" });
  const show = () => {
    const run = state.runs[state.stop];
    const room = (root.clientWidth || 640) - 18;
    const width = Math.max(260, Math.floor(room < 540 ? room : (room - 12) / 2));
    facts.replaceChildren(runFacts(run));
    said.textContent = comparedWith(run);
    charts.replaceChildren(tauChart(state.runs, run, width), tradeOffChart(state.runs, run, width),
      curveChart(run, "loss", width), curveChart(run, "weight", width));
    root.dataset.q = run.q;
    controls.sync();
  };
  const controls = stopControls(state, show);
  const rechoose = (kept) => {
    const q = state.runs[state.stop].q;
    controls.stop();
    chosen = possible(data, chosen, kept);
    state.runs = runsOf(data, chosen);
    const near = (run) => Math.abs(run.q - q);
    state.stop = state.runs.reduce((best, run, k) => (near(run) < near(state.runs[best]) ? k : best), 0);
    choices.replaceChildren(...choiceBoxes(data, chosen, rechoose));
    if (kept) choices.querySelector(`[data-choice=${kept}]`).focus();
    show();
  };
  choices.append(...choiceBoxes(data, chosen, rechoose));
  const note = data.note ? make("p", { class: "hn-quiet hn-note" }, data.note) : null;
  root.replaceChildren();
  fill(root, {}, [note, controls, said, choices, facts, charts]);
  show();
  whenResized(root, show);
  root.dataset.drawnIn = round(performance.now() - start);
  return controls.stop;
}
