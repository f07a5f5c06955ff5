"""Figures show what they are given, and drawing needs no display."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from hypernas.errors import UserError
from hypernas.lab.metrics import student_interval
from hypernas.view.layered import layered

EDGES = [(0, 1), (1, 3), (1, 5), (0, 2), (2, 6), (3, 6), (0, 4), (4, 7), (5, 7), (6, 7)]
LIBRARIES = "import hypernas.view.figures, sys; sys.exit('matplotlib' in sys.modules)"


@pytest.fixture(autouse=True)
def no_display():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def rows(seeds=5):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "space": "toy",
                "dataset": "toyset",
                "method": m,
                "graph_form": g,
                "n_train": n,
                "seed": s,
                "kendall_tau": rng.random(),
            }
            for m in ("np", "hypernas")
            for g in ("raw", "contracted")
            for n in (39, 78)
            for s in range(seeds)
        ]
    )


def random_graph(rng, n):
    return [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.5]


def test_importing_the_plots_does_not_import_matplotlib():
    assert subprocess.run([sys.executable, "-c", LIBRARIES], check=False).returncode == 0


@pytest.mark.parametrize("seed", range(20))
def test_an_edge_never_shares_a_place_with_a_node_it_does_not_end_at(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    layout = layered(n, random_graph(rng, n))
    for (i, j), route in layout.route.items():
        others = {place for node, place in layout.position.items() if node not in (i, j)}
        assert not others & set(route)
        assert route[0] == layout.position[i]
        assert route[-1] == layout.position[j]
        assert all(b[0] - a[0] == 1 for a, b in pairwise(route))


def test_no_two_nodes_share_a_place():
    assert len(set(layered(8, EDGES).position.values())) == 8


def test_the_nasbench201_cell_is_drawn_without_a_crossing():
    steps = [step for route in layered(8, EDGES).route.values() for step in pairwise(route)]
    for (a, b), (c, d) in ((s, t) for s in steps for t in steps if s[0][0] == t[0][0]):
        assert (a[1] - c[1]) * (b[1] - d[1]) >= 0


def test_an_edge_backwards_is_refused():
    with pytest.raises(UserError, match="to a later one of the 3, got 2 -> 1"):
        layered(3, [(2, 1)])


def test_every_known_method_has_its_own_look():
    from hypernas.view.style import METHODS, method_style

    looks = [tuple(method_style(name).values())[1:] for name in METHODS]
    assert len(set(looks)) == len(looks)


def test_learning_curves_draw_the_mean_and_students_band_of_every_series():
    from hypernas.view import comparisons

    frame = rows()
    paper = pd.DataFrame({"space": ["toy"], "method": ["hypernas"], "n_train": [78], "paper": [0.677]})
    figure = comparisons.learning_curves(frame, ["method", "graph_form"], paper=paper)
    (ax,) = figure.axes
    labels = {text.get_text() for text in ax.texts}
    assert labels == {"NP, raw", "NP, contracted", "HyperNAS, raw", "HyperNAS, contracted"}
    means = frame.groupby(["method", "graph_form", "n_train"])["kendall_tau"].mean()
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 2]
    assert any(np.allclose(values, means["np", "raw"]) for values in drawn)
    one = frame.query("method == 'np' and graph_form == 'raw' and n_train == 39")["kendall_tau"]
    band = ax.collections[0].get_paths()[0].vertices
    at_39 = sorted({round(y, 9) for x, y in band if x == 39})
    assert at_39 == pytest.approx(sorted(student_interval(one.to_numpy())))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["39", "78"]


def test_numbers_of_labels_that_would_run_into_each_other_are_not_both_written():
    from hypernas.view import comparisons

    frame = pd.concat([rows(1).query("n_train == 39").assign(n_train=n) for n in (50, 100, 172, 424, 4236)])
    (ax,) = comparisons.learning_curves(frame, ["method", "graph_form"]).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["50", "100", "", "424", "4236"]
    assert len(ax.get_xticks()) == 5


def test_rows_of_two_settings_are_not_averaged():
    from hypernas.view import comparisons

    with pytest.raises(UserError, match="one row a space, dataset, method, graph_form, n_train, seed is needed"):
        comparisons.learning_curves(pd.concat([rows(1), rows(1)]), ["method", "graph_form"])


def test_a_figure_of_more_than_six_series_is_refused():
    from hypernas.view import comparisons

    many = pd.concat([rows(2).assign(method=f"m{i}") for i in range(4)]).drop_duplicates(
        ["method", "graph_form", "n_train", "seed"]
    )
    with pytest.raises(UserError, match="at most 6 series, got 8"):
        comparisons.learning_curves(many, ["method", "graph_form"])


def test_a_method_without_a_hypernetwork_has_one_loss_curve():
    from hypernas.view import figures as plots

    history = [{"epoch": e, "loss_pred": 1 / (e + 1)} for e in range(5)]
    assert len(plots.loss_curves(history).lines) == 1


LINE = {
    "page": "a", "says": "A over B", "metric": "kendall_tau", "margin": 0.0, "level": "space", "space": "toy",
    "where": "toy", "n_seeds": 2, "differences": [0.1, 0.3], "difference": 0.2, "low": 0.1, "high": 0.3,
    "answer": "higher",
}  # fmt: skip


def test_strips_show_every_pair_and_colour_by_the_answer():
    from matplotlib.colors import to_hex

    from hypernas.view import comparisons
    from hypernas.view.style import BLUE, RED

    lines = pd.DataFrame([LINE, LINE | {"says": "B over A", "answer": "lower", "differences": [-0.3, -0.1]}])
    ax = comparisons.paired_strips(lines)
    dots = [drawn for drawn in ax.collections if len(drawn.get_offsets()) == 2]
    assert sorted(x for drawn in dots for x, _ in drawn.get_offsets().tolist()) == [-0.3, -0.1, 0.1, 0.3]
    assert {to_hex(drawn.get_facecolor()[0]).upper() for drawn in dots} == {BLUE, RED}
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["A over B", "B over A"]
    assert "+0.200 [+0.100, +0.300]   2 seeds" in [text.get_text() for text in ax.texts]


def test_figures_of_no_rows_say_so():
    from hypernas.view import comparisons

    ax = comparisons.paired_strips(pd.DataFrame([LINE]).iloc[:0])
    assert [text.get_text() for text in ax.texts] == ["No two runs to compare are recorded yet."]
    (ax,) = comparisons.learning_curves(rows(1).iloc[:0]).axes
    assert [text.get_text() for text in ax.texts] == ["No rows are recorded yet."]


def test_dumbbells_join_ours_and_the_papers_figure_of_each_method():
    from hypernas.lab.summary import summary
    from hypernas.view import comparisons

    place = {"space": "toy", "dataset": "toyset", "method": "hypernas", "n_train": 78}
    frame = rows().query("n_train == 78 and graph_form == 'raw'").assign(seconds=1.0)
    lines = summary(frame, pd.DataFrame([{**place, "paper": 0.677, "paper_source": "Table 2"}]))
    pairs = comparisons.beside_paper(lines)
    (ax,) = comparisons.dumbbells(pairs).axes
    assert ax.get_title() == "toy\n78 labels"
    paper, ours = (line.get_xdata() for line in ax.lines)
    assert np.nansum(paper) == pytest.approx(0.677)
    assert sorted(ours) == pytest.approx(sorted(lines["kendall_tau_mean"]))


def test_a_search_stands_beside_the_figure_of_the_predictor_that_it_trains_once():
    from hypernas.view import comparisons

    place = {"space": "nasbench201", "dataset": "cifar10", "test_accuracy": 94.0}
    runs = [
        place | {"method": method, "predictor": predictor, "seed": seed, "validation_accuracy": 91.0 + seed}
        for method, predictor in (("top-k", "hypernas"), ("guided", "hypernas"), ("evolution", np.nan))
        for seed in (0, 1)
    ]
    both = comparisons.searches_beside_paper(pd.DataFrame(runs), "nasbench201", "cifar10")
    lines = both[both["facet"] == "validation accuracy"].set_index("name")
    assert lines["ours"].dropna().to_dict() == dict.fromkeys(["top-k, HyperNAS", "guided, HyperNAS", "evolution"], 91.5)
    assert lines["paper"].dropna().to_dict() == {"top-k, HyperNAS": 91.57, "PINAT": 91.03}


def test_a_figure_takes_the_colours_of_its_page_and_keeps_names_as_text():
    from hypernas.view.style import Picture

    hostile = "<script>alert(1)</script> $x$"
    lines = pd.DataFrame([LINE | {"says": hostile}, LINE])
    from hypernas.view import comparisons

    html = Picture(comparisons.paired_strips(lines), hostile)._repr_html_()
    assert "currentColor" in html
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_a_missing_column_is_named():
    from hypernas.view import figures as plots

    with pytest.raises(UserError, match="accuracy are missing"):
        plots.pareto(pd.DataFrame({"flops": [1.0]}), "flops", "accuracy")


def test_a_curve_keeps_its_bends_and_begins_after_its_random_architectures():
    from hypernas.view import comparisons

    steps = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0]
    curves = pd.DataFrame({"queries": range(1, 9), "mean": steps, "low": steps, "high": steps, "n_seeds": 2})
    whole = curves.assign(method="random", predictor=np.nan, first=np.nan, n_random=0)
    later = curves.assign(method="guided", predictor="np", first=0, n_random=4)
    ax = comparisons.best_so_far(pd.concat([whole, later]))
    (x, y), (x_later, _) = (line.get_data() for line in ax.lines)
    assert x.tolist() == [1, 3, 4, 6, 7, 8]
    assert np.interp(range(1, 9), x, y).tolist() == steps
    assert x_later.tolist() == [4, 6, 7, 8]
