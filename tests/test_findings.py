"""What is said of recorded rows follows from them."""

import pandas as pd
import pytest

from hypernas.lab import findings
from hypernas.lab import rows as results

ORDER = ["question", "subject", "n_train", "n_seeds"]


def rows(taus, **changed):
    """`taus`: (method, graph_form, n_train) -> one Kendall tau a seed."""
    lines = [
        {"space": "nasbench201", "dataset": "cifar10", "method": method, "graph_form": form, "n_train": size,
         "seed": seed, "profile": "standard", "protocol": "clean", "source": "a table", "kendall_tau": tau} | changed
        for (method, form, size), values in taus.items()
        for seed, tau in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def quoted(**figures):
    lines = [{"method": name.replace("_", "-"), "n_train": 78, "paper": value} for name, value in figures.items()]
    return pd.DataFrame(lines, columns=["method", "n_train", "paper"])


def test_the_answer_follows_from_the_interval():
    found = findings.comparisons(
        rows({
            ("hypernas", "raw", 39): [0.5, 0.6, 0.7], ("hypernas-p", "raw", 39): [0.4, 0.5, 0.6],
            ("hypernas", "raw", 78): [0.5, 0.6, 0.7], ("hypernas-p", "raw", 78): [0.6, 0.7, 0.8],
            ("hypernas", "raw", 156): [0.5, 0.6, 0.7], ("hypernas-p", "raw", 156): [0.7, 0.6, 0.5],
        }),
        quoted(),
    )  # fmt: skip
    assert found["difference"].tolist() == pytest.approx([0.1, -0.1, 0.0])
    text = findings.in_words(found)
    assert text.startswith("Differences over 3 seeds.")
    assert "Of 3 comparisons: 1 higher, 1 no clear difference, 1 lower." in text
    assert "hypernas over hypernas-p, raw graph: higher at 39 (+0.100, +0.100 to +0.100)." in text
    assert "hypernas over hypernas-p, raw graph: lower at 78 (−0.100" in text
    assert "hypernas over hypernas-p, raw graph: no clear difference at 156 (0.000, −0.200 to +0.200)." in text


def test_only_seeds_that_both_sides_have_are_compared():
    taus = {("hypernas-p", "raw", 78): [0.5, 0.6, 0.1], ("np", "raw", 78): [0.4, 0.5]}
    found = findings.comparisons(rows(taus), quoted())
    assert found[ORDER].values.tolist() == [["Does the global encoding help?", "hypernas-p over np, raw graph", 78, 2]]
    assert found["difference"].item() == pytest.approx(0.1)


def test_every_method_is_held_against_its_own_quoted_figure():
    taus = {(method, "raw", 78): [0.7, 0.8] for method in ("np", "hypernas")}
    found = findings.comparisons(rows(taus), quoted(np=0.65, hypernas=0.85))
    assert found.set_index("subject")["difference"].to_dict() == pytest.approx(
        {"hypernas, raw graph": -0.1, "np, raw graph": 0.1}
    )
    assert set(found["question"]) == {findings.PAPER}


def test_contraction_is_compared_within_a_method():
    taus = {("np", "raw", 78): [0.6, 0.6], ("np", "contracted", 78): [0.7, 0.7], ("hypernas", "raw", 78): [0, 0]}
    found = findings.comparisons(rows(taus), quoted())
    assert found[["question", "subject"]].values.tolist() == [[findings.CONTRACTION, "np, contracted over raw"]]


@pytest.mark.parametrize("taus", [{}, {("np", "raw", 78): [0.6]}])
def test_too_few_rows_say_nothing(taus, tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))
    none = results.frame("few_shot")
    chosen = findings.usual(rows(taus) if taus else none)
    assert len(chosen) == len(taus)
    assert findings.in_words(findings.comparisons(chosen, quoted(np=0.6))).startswith("Nothing can be compared")


def test_unlike_settings_are_not_mixed():
    taus = {("np", "raw", 78): [0.6, 0.6]}
    other = rows(taus, q=2.0).iloc[:1]
    quick = rows(taus, profile="quick")
    mixed = pd.concat([rows(taus, q=1.5), other, quick, quick], ignore_index=True)
    kept = findings.usual(mixed)
    assert (kept["q"].tolist(), kept["profile"].tolist()) == ([1.5, 1.5], ["standard", "standard"])
    assert findings.comparisons(kept, quoted(np=0.5))["n_seeds"].item() == 2


def test_provenance_names_what_the_rows_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))
    assert findings.provenance(results.frame("few_shot")) == ""
    made = rows({("np", "raw", 78): [0.6, 0.6]}, seconds=600.4, device="a machine", commit=None)
    made["started"] = ["2026-11-22T23:59:00+00:00", "2026-11-23T00:10:00+00:00"]
    said = findings.provenance(made).splitlines()
    assert said == [
        "- 2 rows, 1,201 seconds of training", "- source: a table", "- profile: standard", "- seed: 0, 1",
        "- device: a machine", "- date: 2026-11-22 to 2026-11-23",
    ]  # fmt: skip
