"""The README's table of results says what the recorded rows say."""

import re
from pathlib import Path

import pytest

from hypernas.lab import claims, costs, grids
from hypernas.lab import rows as results
from hypernas.lab.findings import estimate

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
COLUMNS = ("np", "hypernas-p", "hypernas")


@pytest.fixture(autouse=True)
def recorded_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(ROOT / "data" / "results"))


@pytest.fixture
def said() -> str:
    return " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def lines() -> list[tuple[int, list[str]]]:
    text = (ROOT / "README.md").read_text().split("## What reproduces")[1].split("\n## ")[0]
    return [(int(n), cells.split(" | ")) for n, cells in LINE.findall(text)]


def test_the_table_has_lines():
    assert len(lines()) >= 3


@pytest.mark.parametrize(("n_train", "cells"), lines())
def test_every_figure_of_the_table_is_recorded(n_train: int, cells: list[str]):
    rows = results.frame("few_shot").query(
        "space == 'nasbench201' and dataset == 'cifar10' and graph_form == 'contracted' and n_train == @n_train"
        " and profile == 'standard' and seed < 5"
    )
    paper = results.paper_figures("few_shot").query("space == 'nasbench201' and n_train == @n_train")
    for method, cell in zip(COLUMNS, cells, strict=False):
        tau = rows.loc[rows["method"] == method, "kendall_tau"]
        assert cell == (f"{tau.mean():.3f} ± {tau.std():.3f}" if len(tau) else "–")
    for method, cell in zip(("np", "hypernas"), cells[3:], strict=True):
        quoted = paper.loc[(paper["method"] == method) & (paper["dataset"] == "cifar10"), "paper"]
        assert cell == (f"{quoted.iloc[0]:.3f}" if len(quoted) else "–")


def test_the_figures_of_nasbench101_are_recorded(said: str):
    rows, paper = grids.rows("nasbench101"), results.paper_figures("few_shot").query("space == 'nasbench101'")
    ours = rows.groupby(["method", "n_train"])["kendall_tau"].mean().map("{:.3f}".format)
    quoted = paper.set_index(["method", "n_train"])["paper"].map("{:.3f}".format)
    several = [
        ", ".join(side[method, n] for n in (100, 172, 424))
        for side, method in ((ours, "hypernas-p"), (quoted, "hypernas"))
    ]
    assert f"({several[0]}; the paper {several[1]})" in said
    assert f"({ours['hypernas-p', 50]} for {quoted['hypernas', 50]})" in said
    assert f"NP itself has {ours['np', 100]} with 100 labels here and {quoted['np', 100]} in the paper" in said


def test_what_the_hypernetwork_adds_in_the_other_spaces_is_recorded(said: str):
    places = (("darts", "DARTS", ""), ("mobilenetv3", "MobileNetV3", ""))
    for page, name, where in (*places, ("vit", "vision transformers, first file,", "First file: ")):
        found = claims.on_average(claims.answers(grids.rows(page), page))
        line = found[found["says"] == f"{where}HyperNAS ranks better than HyperNAS-P"].to_dict("records")[0]
        middle, interval = estimate(line).split(", ")
        assert f"{name} {middle} ({interval})" in said


def test_what_the_context_adds_is_recorded(said: str):
    found = claims.on_average(claims.answers(grids.rows("connectivity"), "connectivity")).to_dict("records")[0]
    middle, interval = estimate(found).split(", ")
    assert f"ten seeds, {middle} ({interval})" in said
    rows = grids.rows("context").query("space == 'nasbench201_depth'")
    found = claims.on_average(claims.answers(rows, "context")).set_index("says").to_dict("index")
    for says, words in (
        ("Sum ranks better than no context", "better than no context, "),
        ("Sum ranks better than a position embedding", "sum minus position "),
    ):
        middle, interval = estimate(found[says]).split(", ")
        assert f"{words}{middle} ({interval})" in said


def test_what_wider_networks_of_nasbench101_learned_is_recorded(said: str):
    found = claims.on_average(claims.answers(grids.rows("nasbench101"), "nasbench101")).set_index("says")
    middle, interval = estimate(found.loc["HyperNAS ranks better than HyperNAS-P"].to_dict()).split(", ")
    assert f"ten seeds, five with 424 labels: HyperNAS over HyperNAS-P {middle} ({interval})" in said
    chosen = "space == 'nasbench101' and method == 'hypernas' and n_train == 100 and seed < 3"
    rows = results.frame("few_shot").query(chosen)
    read = rows[rows["n_test"] > 20000].groupby(rows["channels"].fillna(4))["target_test_accuracy"].mean()
    assert f"read {read[8]:.0f} % of the held-out digits in place of {read[4]:.0f} % with 100 labels" in said


def test_what_the_preference_coefficient_does_is_recorded(said: str):
    found = claims.on_average(claims.answers(grids.rows("preference"), "preference")).set_index("says")
    for q, words in (("2", "q = 2 ({})"), ("3", "q = 3 ({})"), ("1.25", "than 1.25 ({})")):
        middle, interval = estimate(found.loc[f"q = 1.5 ranks better than q = {q}"].to_dict()).split(", ")
        assert words.format(f"{middle}, {interval}") in said
    for q, words in (("2", "as q = 2 does ({} percentage points, {})"), ("3", "better ones than q = 3 ({}, {})")):
        middle, interval = estimate(
            found.loc[f"q = 1.5 generates better weights than q = {q}"].to_dict(), "target_test_accuracy"
        ).split(", ")
        assert words.format(middle, interval) in said


def test_what_weights_each_component_generates_is_recorded(said: str):
    found = claims.on_average(claims.answers(grids.rows("components"), "components")).set_index("says")
    for says, words in (
        ("HyperNAS generates better weights than HyperNAS-H", "that task alone ({} percentage points, {})"),
        ("HyperNAS-H generates better weights than GHN", "worse than GHN's ({}, {})"),
    ):
        assert words.format(*estimate(found.loc[says].to_dict(), "target_test_accuracy").split(", ")) in said


def test_what_images_and_encoders_do_is_recorded(said: str):
    found = claims.on_average(claims.answers(grids.rows("auxiliary_data"), "auxiliary_data")).set_index("says")
    for says, words in (
        ("CIFAR-10 images rank better than digits", "CIFAR-10 for digits"),
        ("Digits rank better than digits with random labels", "digits with their own labels for random ones"),
        ("Digits rank better than noise", "digits for noise"),
    ):
        middle, interval = estimate(found.loc[says].to_dict()).split(", ")
        assert f"{words} {middle} ({interval})" in said
    found = claims.on_average(claims.answers(grids.rows("encoder"), "encoder")).set_index("says")
    line = found.loc["The GCN generates better weights than GHN's GatedGNN"]
    turned = {"difference": -line["difference"], "low": -line["high"], "high": -line["low"]}
    middle, interval = estimate(turned, "target_test_accuracy").split(", ")
    assert f"better weights than the GCN ({middle} percentage points, {interval}, against Figure 6b)" in said
    line = found.loc["In HyperNAS the GCN ranks better than GHN's GatedGNN"].to_dict()
    assert f"ranks worse (the GCN over it {estimate(line)})" in said


def test_what_the_graph_and_counted_features_do_is_recorded(said: str):
    rows = grids.rows("graph_form")
    found = claims.on_average(claims.answers(rows, "graph_form")).set_index("says")
    gain, interval = estimate(found.loc["The contracted graph ranks better than the raw one"].to_dict()).split(", ")
    pruned = estimate(found.loc["The pruned graph ranks better than the raw one"].to_dict()).split(", ")[0]
    assert f"gains {gain} ({interval}) in tau over the raw one, {pruned} of it by".replace("+", "") in said
    raw = rows.query("method == 'hypernas' and graph_form == 'raw'").groupby("n_train")["kendall_tau"].mean()
    assert f"On the raw graph HyperNAS has {raw[78]:.3f} and {raw[156]:.3f} with 78 and 156 labels" in said
    ours = grids.rows("peers").query("method == 'graph-features'").groupby(["space", "n_train"])["kendall_tau"].mean()
    for space, sizes, words in (
        ("nasbench201", (78, 156, 469), "{}, {} and {} with 78, 156 and 469 labels"),
        ("nasbench101", (100, 172, 424), "{}, {} and {} with 100, 172 and 424"),
    ):
        assert words.format(*(f"{ours[space, n]:.3f}" for n in sizes)) in said


def test_what_a_gpu_takes_is_recorded(said: str):
    ratios = costs.recorded()["NVIDIA H200"]
    assert f"takes {ratios['paper_training_minutes']:.1f} minutes" in said
    rows = results.frame("precision").query("profile == 'paper'")
    assert [f"{tau:.3f}" for tau in rows["kendall_tau"]] == re.findall(r"One row: tau ([0-9.]+),", said)
    assert f"has {round(ratios['scoring_bfloat16_over_paper'], -2):,.0f} times the paper's rate" in said
    rows = grids.rows("nasbench101").query("method == 'hypernas' and n_train == 100 and seed < 3")
    tau = rows.groupby("profile")["kendall_tau"].mean().map("{:.3f}".format)
    assert f"with 100 labels, in float32, have {tau['paper']}, and {tau['standard']} with the digits" in said
