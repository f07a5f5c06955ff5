"""A table of means has its best in bold and the paper's figure in the cell; a verdict says what its rows say."""

import pandas as pd
import pytest

from hypernas.errors import UserError
from hypernas.lab import pages
from hypernas.lab.summary import PLACE, summary


def rows(**changed):
    return pd.DataFrame(
        [
            {"space": "toy", "dataset": "toyset", "method": method, "n_train": size, "seed": seed, "seconds": 1.0}
            | {"kendall_tau": tau + 0.01 * seed, "graph_form": "raw"}
            | changed
            for method, tau in (("np", 0.5), ("hypernas", 0.6))
            for size in (39, 78)
            for seed in range(3)
        ]
    )


def test_a_table_is_pivoted_with_the_best_bold_and_the_papers_figure_in_its_cell():
    paper = pd.DataFrame([{"space": "toy", "dataset": "toyset", "method": "np", "n_train": 78, "paper": 0.677}])
    table = pages.means_table(summary(rows(), paper.assign(paper_source="Table 2")))
    assert table.count("<tr>") == 4
    assert table.count("<b>0.610</b>") == 2
    assert '0.510<small>± 0.010 (3)</small><small class="hn-paper">paper 0.677</small>' in table
    assert "raw" not in table, "a setting that is the same everywhere has no place in a table"


def test_a_method_without_labels_has_one_column_a_dataset():
    means = summary(rows(n_train=None).drop_duplicates(["method", "seed"]), metrics=["kendall_tau"])
    assert pages.means_table(means).count("<td>") == 4


def test_what_is_not_recorded_is_said():
    empty = rows().iloc[:0]
    assert "No rows are recorded yet" in pages.means_table(summary(empty))
    assert "No rows are recorded yet" in pages.provenance(empty)


def test_provenance_is_one_folded_line():
    shown = pages.provenance(rows(device="a machine", commit="abc", source="a table", started="2026-11-29T10:00"))
    summary_line = shown.split("<summary>")[1].split("</summary>")[0]
    assert "12 recorded runs, 0.0 hours of training, 1 kind of processor" in summary_line
    assert "a machine" not in summary_line
    assert "a machine" in shown


def test_every_verdict_names_a_claim_of_its_page_and_badges_that_exist():
    from hypernas.lab.claims import BADGES, claims

    made = {(claim.page, claim.says) for claim in claims()}
    for name, words in pages.wording()["pages"].items():
        assert (name, words["claim"]) in made
        assert set(words["badges"]) <= set(BADGES)
    for entry in [*pages.wording()["front"], *pages.wording()["ingredients"]]:
        says = entry["says"] if isinstance(entry["says"], list) else [entry["says"]]
        assert {(entry["page"], claim) for claim in says} <= made
    for entry in pages.wording()["use"]:
        assert {(entry["page"], claim) for claim in entry.get("says", [])} <= made


def test_advice_gives_the_gains_that_the_rows_show():
    gain = pages.Page("mobilenetv3").spaces("HyperNAS-P ranks better than NP")["difference"].iloc[0]
    table = pages.cases_table()
    assert f"{gain:+.3f} over NP with 50 to 200 labels" in table
    assert "{}" not in table
    assert table.count("evidence</a>") == len(pages.wording()["use"])


def test_a_claim_that_a_page_does_not_make_is_a_user_error():
    with pytest.raises(UserError, match="the claim must be one of the page connectivity, got 'nothing'"):
        pages.Page("connectivity").answer("nothing")


def test_means_of_a_page_name_the_place_first():
    assert list(pages.Page("connectivity").means(["context"]).columns[:5]) == [*PLACE, "context"]
