"""Figures show what they are given, and drawing needs no display."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from hypernas.errors import UserError
from hypernas.lab.metrics import bootstrap_interval
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
            {"method": m, "graph_form": g, "n_train": n, "seed": s, "kendall_tau": rng.random()}
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


def test_the_tau_figure_draws_the_mean_over_seeds_of_every_method_and_form():
    from hypernas.view import figures as plots

    frame = rows()
    paper = pd.DataFrame({"method": ["hypernas"], "n_train": [78], "paper": [0.677]})
    ax = plots.tau_against_n_train(frame, paper)
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {
        "NP, raw", "NP, contracted", "HyperNAS, raw", "HyperNAS, contracted", "HyperNAS, quoted",
    }  # fmt: skip
    means = frame.groupby(["method", "graph_form", "n_train"])["kendall_tau"].mean()
    np.testing.assert_allclose(lines["NP, raw"].get_ydata(), means["np", "raw"])
    one = frame.query("method == 'hypernas' and graph_form == 'contracted' and n_train == 39")["kendall_tau"]
    drawn = ax.collections[0].get_segments()[0][:, 1]
    np.testing.assert_allclose(drawn, bootstrap_interval(one.to_numpy()))
    assert lines["HyperNAS, quoted"].get_color() == lines["HyperNAS, raw"].get_color()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["39", "78"]


def test_rows_of_two_settings_are_not_averaged():
    from hypernas.view import figures as plots

    with pytest.raises(UserError, match="got two for"):
        plots.tau_against_n_train(pd.concat([rows(1), rows(1)]))


def test_the_scatter_counts_what_it_leaves_out():
    from hypernas.view import figures as plots

    true = np.r_[np.full(5, 10.0), np.linspace(80, 94, 95)]
    frame = pd.DataFrame({"true": true, "predicted": true, "train": np.arange(100) < 3})
    ax = plots.predicted_against_true(frame)
    assert ax.get_xlabel() == "true test accuracy, % (5 lower ones not shown)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["not seen (97)", "training set (3)"]


def test_a_method_without_a_hypernetwork_has_one_loss_curve():
    from hypernas.view import figures as plots

    history = [{"epoch": e, "loss_pred": 1 / (e + 1)} for e in range(5)]
    assert len(plots.loss_curves(history).lines) == 1


def summary(n_seeds=5):
    from hypernas.lab import rows as results

    frame = rows(n_seeds).assign(space="toy", dataset="toyset", profile="standard", seconds=1.0)
    frame["target_test_accuracy"] = 90 * frame["kendall_tau"]
    place = {"space": "toy", "dataset": "toyset", "method": "hypernas", "n_train": 78}
    quoted = pd.DataFrame([{**place, "paper": 0.677, "paper_source": "Table 2"}])
    return results.summary(frame, quoted, metrics=("kendall_tau", "target_test_accuracy"))


def test_the_figure_of_means_draws_every_series_at_its_place_and_quoted_figures_hollow():
    from hypernas.view import figures as plots

    lines = summary()
    ax = plots.means(lines)
    drawn = {line.get_label(): line for line in ax.lines}
    assert {"NP, raw", "NP, contracted", "HyperNAS, raw", "HyperNAS, contracted"} <= set(drawn)
    chosen = lines.query("method == 'np' and graph_form == 'raw'")
    np.testing.assert_allclose(drawn["NP, raw"].get_ydata(), chosen["kendall_tau_mean"])
    assert drawn["HyperNAS, raw, quoted"].get_markerfacecolor() == "white"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["39\ntoy", "78"]
    assert ax.get_ylim()[0] > -1


def test_the_figure_of_differences_shows_every_pair_and_colours_by_the_answer():
    from hypernas.view import figures as plots
    from hypernas.view.style import BLUE, RED

    line = {
        "page": "a",
        "worst": "",
        "says": "A over B",
        "metric": "kendall_tau",
        "margin": 0.0,
        "n_seeds": 2,
        "each": [0.1, 0.3],
    }
    line |= {"difference": 0.2, "low": 0.1, "high": 0.3, "where": "", "answer": "holds"}
    found = pd.DataFrame([line, line | {"where": "toy, 39", "answer": "does not hold"}])
    ax = plots.differences(found)
    dots = [drawn for drawn in ax.lines if drawn.get_markersize() == 3]
    found = [(*map(list, drawn.get_data()), drawn.get_color()) for drawn in dots]
    assert found == [([0.1, 0.3], [1.4, 1.4], BLUE), ([0.1, 0.3], [2.4, 2.4], RED)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["on average", "toy, 39"]
    assert "A over B" in [text.get_text() for text in ax.texts]
    assert "small dots: one seed each" in ax.get_xlabel()
    both = pd.DataFrame([line, line | {"page": "b"}])
    assert [tick.get_text() for tick in plots.differences(both).get_yticklabels()] == ["a", "b"]
    accuracy = pd.DataFrame([line | {"metric": "test_accuracy", "worst": "toy, 39"}])
    ax = plots.differences(accuracy, "test_accuracy")
    assert ax.get_xlabel().startswith("difference in test accuracy, percentage points")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["lowest"]


def test_the_figure_of_two_metrics_rings_what_no_other_beats():
    from hypernas.view import figures as plots

    lines = summary().query("n_train == 78 and method == 'np'").assign(q=[1.0, 2.0])
    ax = plots.front(lines.drop(columns=["method", "graph_form"]), "target_test_accuracy", "kendall_tau", along="q")
    ring = next(line for line in ax.lines if line.get_label() == "not beaten")
    np.testing.assert_allclose(ring.get_ydata(), lines["kendall_tau_mean"].max())
    assert {text.get_text() for text in ax.texts} == {"1", "2"}


@pytest.mark.parametrize("n_seeds", [0, 1])
def test_figures_of_no_rows_say_so_and_of_one_seed_have_no_interval(n_seeds):
    from hypernas.view import figures as plots

    lines = summary(1)
    lines = lines if n_seeds else lines.iloc[:0]
    two = plots.front(lines, "target_test_accuracy", "kendall_tau", along="n_train")
    found = pd.DataFrame(columns=["says", "metric", "margin", "n_seeds", "each", "answer", "where"])
    figures = [plots.means(lines), plots.means(lines, "target_test_accuracy"), two, plots.differences(found)]
    said = [[text.get_text() for text in ax.texts] for ax in figures]
    assert said[-1] == ["No two runs to compare are recorded yet."]
    assert all((["No rows are recorded yet."] == text) != n_seeds for text in said[:-1])
    assert not plots.tau_against_n_train(rows(0).reindex(columns=rows(1).columns)).lines


def test_a_missing_column_is_named():
    from hypernas.view import figures as plots

    with pytest.raises(UserError, match="predicted are missing"):
        plots.predicted_against_true(pd.DataFrame({"true": [1.0]}))


def test_a_drawn_cell_shows_every_operation_and_the_count_of_merged_edges():
    from hypernas.view import figures as plots

    ax = plots.draw_cell(["input", "nor_conv_3x3", "output"], [(0, 1), (1, 2), (0, 2, 3)])
    assert [text.get_text() for text in ax.texts] == ["×3", "input", "nor conv\n3x3", "output"]


def test_a_curve_keeps_its_bends_and_begins_after_its_random_architectures():
    from hypernas.view import figures as plots

    steps = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0]
    curves = pd.DataFrame({"queries": range(1, 9), "mean": steps, "low": steps, "high": steps, "n_seeds": 2})
    whole = curves.assign(method="random", predictor=np.nan, first=np.nan, n_random=0)
    later = curves.assign(method="guided", predictor="np", first=0, n_random=4)
    ax = plots.best_so_far(pd.concat([whole, later]))
    (x, y), (x_later, _) = (line.get_data() for line in ax.lines)
    assert x.tolist() == [1, 3, 4, 6, 7, 8]
    assert np.interp(range(1, 9), x, y).tolist() == steps
    assert x_later.tolist() == [4, 6, 7, 8]
