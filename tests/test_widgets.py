"""Views: their data are right and small, bad input is a sentence, and the twin for static pages holds everything."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("anywidget")

from hypernas import spaces
from hypernas.graph import Architecture, Cell
from hypernas.view import live as explore
from hypernas.view.drawings import drawing
from hypernas.view.widgets import CellView, ParetoView, QExplorer
from hypernas.view.widgets.packing import DIGITS, pack
from hypernas.view.widgets.view import DATA_LIMIT, View, compact_json, script, style

ROOT = Path(__file__).resolve().parents[1]
SPACE = spaces.get("nasbench201")
NOTATION = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|"
PARSED = SPACE.parse(NOTATION)
DRAWN = drawing(PARSED, SPACE, "one", SPACE.build(PARSED))
STATE = "application/vnd.jupyter.widget-view+json"


def sampled(n, seed=0):
    rng = np.random.default_rng(seed)
    return [drawing(SPACE.sample(rng), SPACE) for _ in range(n)]


def points(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"cost": rng.uniform(1, 2, n), "accuracy": rng.uniform(90, 94, n)})


def row(q=1.5, seed=0, tau=0.7, **more):
    history = [{"epoch": e, "loss_pred": 1 / (e + 1), "weight_pred": 0.5, "loss_hyper": 2.3} for e in range(50)]
    plain = {"q": q, "reading": "printed", "n_train": 39, "kendall_tau": tau, "seed": seed, "history": history}
    return {**plain, "profile": "standard", "target_accuracy": 40.0, **more}


def unpacked(packed, i):
    """Operations and notation of point i, as the script reads them."""
    ops, *more = packed["drawn"][i].split(":")
    g, t = map(int, more or (0, 0))
    graph = packed["graphs"][g]
    cells = [list(cell["ops"]) for cell in graph["cells"]]
    notation, names = graph["templates"][t], list(graph["operations"])
    for (u, k), digit in zip(graph["vary"], ops, strict=True):
        cells[u][k] = names[DIGITS.index(digit)]
        notation = notation.replace("{}", cells[u][k], 1)
    return cells, notation


def test_the_code_of_the_views_is_small_and_of_one_module():
    assert len(script().encode()) + len(style().encode()) < 60_000
    assert str(View._esm).count("export default") == 1
    assert not re.search(r"^(import|export)\b", script(), re.MULTILINE)
    assert "</script" not in script()
    assert "</style" not in style()
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", script() + style())


def test_the_drawing_of_an_architecture_is_plain_and_tells_shapes_and_weights():
    assert json.loads(compact_json(DRAWN)) == json.loads(json.dumps(DRAWN))
    assert DRAWN["cells"][0]["ops"][1] == "nor_conv_3x3"
    details = DRAWN["details"]
    assert details["table"][details["rows"][0]][1] == [16, 32, 32, 16 * 16 * 9]
    assert details["table"][details["rows"][-1]][1] == [64, 8, 8, 64 * 64 * 9]
    assert details["table"][details["rows"][5]][1] == [32, 16, 16, 16 * 32 * 9]
    total = sum(detail[3] for r in details["rows"] for detail in details["table"][r] if detail)
    assert total == sum(c.c_in * c.c_out * c.kernel**2 for c in SPACE.build(PARSED).convs)


def test_every_operation_of_every_space_has_a_colour_and_none_is_unknown():
    for name in spaces.names():
        space = spaces.get(name)
        architecture = space.sample(np.random.default_rng(0))
        assert "sentence" not in CellView(drawing(architecture, space)).data
        assert all(re.fullmatch("#[0-9A-Fa-f]{6}", c) for c in drawing(architecture, space)["operations"].values())


def test_packed_architectures_come_back_whole():
    drawings = dict(enumerate(sampled(50)))
    drawings[50] = drawing(SPACE.canonical(PARSED), SPACE)
    packed = pack(drawings, 52)
    assert packed["drawn"][51] == 0
    for i, each in drawings.items():
        ops, notation = unpacked(packed, i)
        assert ops == [cell["ops"] for cell in each["cells"]]
        assert notation == each.get("notation", "")
    assert len(packed["graphs"]) == 2


def test_a_view_carries_no_more_than_twenty_kilobytes_and_keeps_the_cells_of_the_front():
    frame = points(500)
    rng = np.random.default_rng(0)
    drawings = [drawing(SPACE.canonical(SPACE.sample(rng)), SPACE) for _ in range(500)]
    data = ParetoView(frame, "cost", "accuracy", drawings).data
    kept = [i for i, code in enumerate(data["drawn"]) if code != 0]
    assert len(compact_json(data)) <= DATA_LIMIT
    assert 10 < len(kept) < 500
    assert set(data["front"]) <= set(kept)
    assert len(compact_json(ParetoView(points(500), "cost", "accuracy", sampled(500)).data)) <= DATA_LIMIT
    grid = [row(q, s, reading=reading) for q in np.arange(0.5, 4, 0.25) for reading in "ab" for s in range(3)]
    data = QExplorer(grid).data
    assert len(compact_json(data)) <= DATA_LIMIT
    assert len(data["runs"]) == 28
    assert all(run["curves"]["epoch"][0] == 0 and run["curves"]["epoch"][-1] == 49 for run in data["runs"])


def with_op(op):
    cell = {**DRAWN["cells"][0], "ops": [op, *DRAWN["cells"][0]["ops"][1:]]}
    return {**DRAWN, "cells": [cell, DRAWN["cells"][1]]}


BAD = {
    "at least two rows, got an empty one": lambda: ParetoView(points(0), "cost", "accuracy"),
    "at least two points, got one: cost 1.6": lambda: ParetoView(points(1), "cost", "accuracy"),
    "finite numbers, 1 of 5 are not, row 2 first": lambda: ParetoView(
        points(5).assign(cost=[1, 2, np.nan, 4, 5]), "cost", "accuracy"
    ),
    "must have a column size, it has cost, accuracy": lambda: ParetoView(points(5), "size", "accuracy"),
    "column cost must hold numbers, got 'many'": lambda: ParetoView(
        pd.DataFrame({"cost": ["many", "few"], "accuracy": [1, 2]}), "cost", "accuracy"
    ),
    "logarithmic axis needs cost above 0, got 0": lambda: ParetoView(
        points(5).assign(cost=range(5)), "cost", "accuracy", log_x=True
    ),
    "one of the 5 rows, got one for row 7": lambda: ParetoView(points(5), "cost", "accuracy", {7: DRAWN}),
    "got 'conv_9x9'": lambda: ParetoView(points(5), "cost", "accuracy", {0: with_op("conv_9x9")}),
    "an operation must be one of input, output, none, .* got 'conv_9x9'": lambda: CellView(with_op("conv_9x9")),
    "at least one drawing, got none": lambda: CellView([]),
    "operations, cells, sequence, got notation": lambda: CellView({"notation": NOTATION}),
    "must name the 2 cells at least once": lambda: CellView({**DRAWN, "sequence": [0, 2]}),
    "no recorded grid over q exists yet": lambda: QExplorer(pd.DataFrame(columns=["q", "kendall_tau"])),
    "q must be a finite number, got nan": lambda: QExplorer([row(float("nan"))]),
    "kendall_tau must be a finite number, got nan": lambda: QExplorer(pd.DataFrame([row(), row(tau=np.nan)])),
    "reading, n_train, kendall_tau, reading is missing": lambda: QExplorer([{"q": 1, "n_train": 2, "kendall_tau": 0}]),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_sentence_in_place_of_the_view(words):
    view = BAD[words]()
    assert re.search(words, view.data["sentence"])
    assert set(view.data) == {"kind", "sentence"}


def test_the_twin_is_whole_and_no_text_ends_its_script_early():
    evil = {**DRAWN, "notation": "</script><script>alert(1)</script><!--"}
    twin = CellView(evil)._repr_mimebundle_()[0]
    assert set(twin) >= {STATE, "text/html"}
    page = twin["text/html"]
    assert page.count("</script>") == 2
    assert "<!--" not in page
    assert "&lt;/script&gt;" in page


def test_rows_of_one_setting_are_averaged_and_others_are_not():
    rows = [row(1.5, seed, 0.7 + seed / 100) for seed in range(3)] + [row(2.0), row(1.5, images="cifar10")]
    runs = QExplorer(pd.DataFrame(rows)).data["runs"]
    first = runs[0]
    assert [run["seeds"] for run in runs] == [3, 1, 1]
    assert first["tau"] == pytest.approx(0.71)
    assert first["tau_low"] < 0.70 < 0.72 < first["tau_high"]
    assert runs[1]["tau_low"] is None
    assert first["curves"]["loss_pred"][0] == 1.0
    assert "weight_hyper" not in first["curves"]


def test_train_here_trains_with_what_is_chosen_and_adds_its_run():
    asked = []

    def train(progress, **chosen):
        asked.append(chosen)
        progress(3, 4)
        return row(tau=0.5, **chosen, profile="live")

    explorer = QExplorer([row()], train=train)
    explorer.controls.more.click()
    explorer.controls.reading.value = "text"
    explorer.controls.button.click()
    assert asked == [{"q": 1.75, "reading": "text", "n_train": 39}]
    assert [run["live"] for run in explorer.data["runs"]] == [False, True]
    assert explorer.data["newest"] == 1
    assert (explorer.controls.bar.value, explorer.controls.bar.max) == (3, 4)
    assert "0.500" in explorer.controls.said.value
    assert explorer._repr_mimebundle_()[0][STATE]["model_id"] == explorer.box.model_id


def test_training_that_fails_adds_nothing_and_says_why():
    def train(**chosen):
        raise ValueError("n_train must be at least 2, got 1")

    explorer = QExplorer([], train=train)
    explorer.controls.button.click()
    assert "sentence" in explorer.data
    assert explorer.controls.said.value == "Nothing was added: n_train must be at least 2, got 1"
    assert not explorer.controls.button.disabled


def test_a_live_run_is_a_row_that_the_explorer_takes():
    from hypernas.view.live import train_with_q

    told = []
    new = train_with_q(2.0, "text", 10, epochs=2, n_test=50, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert (new["n_test"], len(new["history"])) == (50, 2)
    run = QExplorer([new]).data["runs"][0]
    assert run["live"]
    assert set(run["curves"]) == {"epoch", "loss_pred", "loss_hyper", "weight_pred", "weight_hyper"}


def test_a_page_keeps_one_copy_of_the_code_and_every_view():
    path = ROOT / "book" / "_ext" / "offline.py"
    spec = importlib.util.spec_from_file_location("offline", path)
    offline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(offline)
    context = {"body": CellView(DRAWN).static_html() + CellView(DRAWN).static_html()}
    offline.views_once(None, "page", "page.html", context, None)
    parts = ("window.hypernasViews=", "--hn-ink: #222", "hypernasViews(doc")
    counts = [context["body"].count(part) for part in parts]
    assert counts == [1, 1, 2]


def test_no_page_with_views_is_heavy():
    folder = ROOT / "book" / "_build" / "html" / "notebooks"
    pages = [page for page in folder.glob("*.html") if "hypernasViews" in page.read_text("utf-8")]
    if not pages:
        pytest.skip("the book is not built: make book")
    assert {page.name for page in pages if page.stat().st_size > 400_000} == set()


def test_an_edge_between_cells_that_do_not_exist_is_refused_before_drawing():
    cell = Cell(ops=(0, 1), adjacency=((0, 1), (0, 0)))
    one = drawing(Architecture((cell,), (0, 0)), SPACE)
    backwards = {**one, "cells": [{**one["cells"][0], "edges": [[1, 0]]}]}
    assert "to a later one of the 2, got 1 -> 0" in CellView(backwards).data["sentence"]


def test_the_ends_of_training_are_means_over_rows_with_curves_and_a_learned_u():
    line = {"loss_pred": 0.5, "loss_hyper": 2.0, "weight_pred": 0.5, "weight_hyper": 0.25}
    row = {"q": 1.5, "reading": "printed", "n_train": 39, "kendall_tau": 0.7}
    whole = [{"epoch": 0, **line}, {"epoch": 1, **line, "loss_pred": 0.1}]
    rows = [row | {"history": whole}, row | {"history": json.dumps([{**line, "loss_pred": 0.3}])}]
    rows += [row, row | {"history": whole, "learn_u": False}]
    (found,) = explore.ends(rows).reset_index().to_dict("records")
    assert found == {"n_train": 39, "reading": "printed", "q": 1.5, **line, "loss_pred": pytest.approx(0.2)}
    assert explore.ends([row]).empty


def test_the_accuracy_of_target_networks_is_that_on_held_out_images_where_it_is_known():
    rows = [row(), row(q=2.0, target_test_accuracy=60.0), row(q=3.0, target_test_accuracy=float("nan"))]
    assert [run["target_accuracy"] for run in QExplorer(rows).data["runs"]] == [40.0, 60.0, 40.0]
