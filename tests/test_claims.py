"""What a page says of a claim follows from the paired interval."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hypernas.errors import UserError
from hypernas.lab import claims, grids, pages
from hypernas.lab import rows as results
from hypernas.lab.claims import (
    CEILING,
    CLAIM,
    EQUIVALENT,
    FEW,
    HIGHER,
    HOLDS,
    LOWER,
    NO,
    OPEN,
    PARTLY,
    SIZE,
    SPACE,
    UNCLEAR,
    Claim,
)

ASKED = Claim("page", "A ranks better than B", "Table 1", one={"method": "a"}, other={"method": "b"})


def rows(taus, **changed):
    """`taus`: (method, n_train) -> one Kendall tau a seed."""
    lines = [
        {"space": "toy", "dataset": "toyset", "method": method, "n_train": size, "seed": seed, "profile": "standard",
         "source": "a table", "kendall_tau": tau} | changed
        for (method, size), values in taus.items()
        for seed, tau in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(lines)


@pytest.fixture
def ask(monkeypatch):
    """A function rows, claim -> its answers."""

    def answers(frame, claim=ASKED):
        monkeypatch.setattr(claims, "claims", lambda: [claim])
        return claims.answers(frame, "page")

    return answers


A = [0.50, 0.62, 0.71, 0.58, 0.66, 0.60]


def whole(answers):
    """The line of the claim as a whole."""
    return answers[answers["level"] == CLAIM].iloc[0]


def spaces(answers):
    return answers[answers["level"] == SPACE]


@pytest.mark.parametrize(
    ("gaps", "answer", "badge"),
    [
        ([0.02, 0.03, 0.01, 0.02, 0.04, 0.02], HIGHER, HOLDS),
        ([-0.02, -0.03, -0.01, -0.02, -0.04, -0.02], LOWER, NO),
        ([0.004, -0.005, 0.001, -0.002, 0.003, 0.0], EQUIVALENT, EQUIVALENT),
        ([0.04, -0.05, 0.01, -0.02, 0.03, 0.00], UNCLEAR, OPEN),
        ([0.02, 0.03, 0.01, 0.02], FEW, OPEN),
        ([0.0, 0.0, 0.0, 0.0, 0.0], CEILING, CEILING),
        ([0.02], FEW, OPEN),
    ],
)
def test_the_answer_follows_from_the_paired_interval(ask, gaps, answer, badge):
    other = [a - gap for a, gap in zip(A, gaps, strict=False)]
    answers = ask(rows({("a", 78): A[: len(gaps)], ("b", 78): other}))
    assert spaces(answers)["answer"].tolist() == [answer]
    line = whole(answers)
    assert line["answer"] == badge
    assert line["n_seeds"] == len(gaps)
    assert line["difference"] == pytest.approx(sum(gaps) / len(gaps))


def test_without_rows_a_claim_is_open(ask):
    assert ask(rows({("a", 78): A}))["answer"].tolist() == [OPEN]


def test_the_interval_is_students_t_on_the_paired_differences(ask):
    gaps = np.array([0.02, 0.03, 0.01, 0.02, 0.04])
    answers = ask(rows({("a", 78): A[:5], ("b", 78): (np.array(A[:5]) - gaps).tolist()}))
    expected = stats.t.interval(0.95, 4, loc=gaps.mean(), scale=stats.sem(gaps))
    assert (whole(answers)["low"], whole(answers)["high"]) == pytest.approx(expected)


def test_pairs_of_one_seed_tell_what_two_means_cannot(ask):
    other = [a - 0.01 - 0.001 * (seed % 2) for seed, a in enumerate(A)]
    assert whole(ask(rows({("a", 78): A, ("b", 78): other})))["answer"] == HOLDS
    assert whole(ask(rows({("a", 78): A, ("b", 78): other[::-1]})))["answer"] == OPEN


def test_a_seed_counts_once_in_a_space_and_each_size_has_its_own_answer(ask):
    up, down = [a - 0.02 for a in A], [a + 0.01 for a in A]
    answers = ask(rows({("a", 39): A, ("b", 39): up, ("a", 78): A, ("b", 78): down}))
    assert answers["level"].tolist() == [CLAIM, SPACE, SIZE, SIZE]
    assert answers["where"].tolist() == ["", "toy", "toy, 39", "toy, 78"]
    assert answers["n_seeds"].tolist() == [6, 6, 6, 6]
    assert answers["difference"].tolist() == pytest.approx([0.005, 0.005, 0.02, -0.01])


def test_no_answer_is_given_below_five_pairs_in_each_space(ask):
    """Three and three seeds of two spaces do not make six, however alike they are."""
    three = rows({("a", 78): A[:3], ("b", 78): [a - 0.1 for a in A[:3]]})
    two_spaces = pd.concat([three, three.assign(space="other")], ignore_index=True)
    answers = ask(two_spaces)
    assert spaces(answers)["answer"].tolist() == [FEW, FEW]
    assert whole(answers)["answer"] == OPEN
    enough = rows({("a", 78): A, ("b", 78): [a - 0.1 for a in A]})
    one_of_two = pd.concat([enough, three.assign(space="other")], ignore_index=True)
    assert whole(ask(one_of_two))["answer"] == OPEN
    assert spaces(ask(one_of_two))["answer"].tolist() == [HIGHER, FEW]


def test_a_pooled_line_never_stands_alone(ask):
    """Of two spaces with opposite signs the claim as a whole has no number, only a badge and its two parts."""
    up = rows({("a", 78): A, ("b", 78): [a - 0.03 - 0.001 * i for i, a in enumerate(A)]})
    down = rows({("a", 78): A, ("b", 78): [a + 0.03 + 0.001 * i for i, a in enumerate(A)]}).assign(space="other")
    answers = ask(pd.concat([up, down], ignore_index=True))
    line = whole(answers)
    assert (line["answer"], line["n_seeds"]) == (PARTLY, 0)
    assert line[["difference", "low", "high"]].isna().all()
    assert spaces(answers)["answer"].tolist() == [HIGHER, LOWER]
    assert "toy +0.03" in pages.in_numbers(answers)
    assert "other −0.03" in pages.in_numbers(answers)


def test_a_lone_space_is_named_where_claims_of_many_pages_stand_together(ask):
    answers = ask(rows({("a", 78): A, ("b", 78): [a - 0.02 - 0.001 * i for i, a in enumerate(A)]}))
    assert pages.in_numbers(answers).startswith("+0.02")
    assert pages.in_numbers(answers, named=True).startswith("toy +0.02")


def test_a_constant_has_no_interval(ask):
    counted = rows({("a", 78): A, ("b", 78): A}).assign(n_parameters=[10.0] * 6 + [7.0] * 6)
    claim = Claim("page", "a has more", "us", one={"method": "a"}, other={"method": "b"}, metric="n_parameters")
    line = whole(ask(counted, claim))
    assert line["answer"] == HOLDS
    assert line[["low", "high"]].isna().all()
    assert pages.in_numbers(ask(counted, claim)) == "+3, 6 seeds"


def test_the_factor_in_labels_is_read_from_the_other_sides_curve(ask):
    """The other side reaches at 100, 200, 400 labels what the one has at 50, 100, 200: it needs twice as many."""
    sizes = (50, 100, 200, 400)
    one = {("a", n): [0.1 * i + 0.2 + 0.001 * seed for seed in range(5)] for i, n in enumerate(sizes)}
    other = {("b", n): [0.1 * i + 0.1 + 0.001 * seed for seed in range(5)] for i, n in enumerate(sizes)}
    claim = Claim("page", "b needs 5 times", "us", {"method": "a"}, {"method": "b"}, metric="label_factor", least=5.0)
    line = whole(ask(rows(one | other), claim))
    assert line["difference"] == pytest.approx(2.0)
    assert line["answer"] == NO


def test_only_runs_of_equal_settings_are_partners(ask):
    frame = pd.concat(
        [
            rows({("a", 78): A}, q=1.5, epochs=200),
            rows({("b", 78): A}, epochs=200),
            rows({("b", 78): A}, epochs=20),
        ],
        ignore_index=True,
    )
    assert ask(frame)["n_seeds"].tolist() == [6, 6, 6]
    with pytest.raises(UserError, match="one partner, got two for 'A ranks better"):
        ask(pd.concat([frame, rows({("a", 78): A}, q=2.0, epochs=200)], ignore_index=True))


def test_a_setting_that_a_claim_names_may_differ(ask):
    frame = pd.concat([rows({("a", 78): A}, q=q) for q in (1.5, 2.0)], ignore_index=True)
    frame.loc[frame["q"] == 2.0, "kendall_tau"] -= 0.02
    answers = ask(frame, Claim("page", "1.5 is better", "us", one={"q": 1.5}, other={"q": 2.0}))
    assert whole(answers)["answer"] == HOLDS
    assert whole(ask(frame, Claim("page", "u", "us", one={"u": 1}, other={"u": 2})))["answer"] == OPEN


def quote(tmp_path, monkeypatch, taus):
    (tmp_path / "data").mkdir()
    text = "table,space,dataset,method,n_train,metric,value,source\n"
    text += "".join(f"t,toy,toyset,a,{n},kendall_tau,{tau},Table 2\n" for n, tau in taus.items())
    (tmp_path / "data" / "paper.csv").write_text(text)
    monkeypatch.setattr(results, "shipped", lambda: tmp_path)
    return Claim("page", "reaches", "Table 2", one={"method": "a"}, paper={"table": "t", "method": "a"}, margin=0.02)


def test_a_quoted_figure_is_reached_within_the_margin(ask, tmp_path, monkeypatch):
    claim = quote(tmp_path, monkeypatch, {78: 0.62})
    frame = rows({("a", 78): [0.61, 0.612, 0.608, 0.61, 0.611], ("a", 39): [0.1] * 5})
    assert whole(ask(frame, claim))["answer"] == HOLDS
    exact = dataclasses.replace(claim, margin=0.0)
    assert whole(ask(frame, exact))["answer"] == NO
    assert whole(ask(frame, claim))["difference"] == pytest.approx(-0.0098)


def test_figures_are_partly_reached_where_one_size_is_below_its_own(ask, tmp_path, monkeypatch):
    claim = quote(tmp_path, monkeypatch, {39: 0.5, 78: 0.9})
    line = whole(ask(rows({("a", 78): [0.8] * 5, ("a", 39): [0.9] * 5}), claim))
    assert (line["answer"], line["where"]) == (PARTLY, "toy, 78")
    assert line["difference"] == pytest.approx(-0.1)


def test_a_page_without_claims_is_a_user_error():
    with pytest.raises(UserError, match="the page must be one of nasbench101, nasbench201, components"):
        claims.answers(pd.DataFrame(), "weather")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))


@pytest.mark.parametrize("page", grids.names())
def test_every_page_with_a_grid_has_claims_and_says_so_where_no_rows_are(page, empty, monkeypatch):
    monkeypatch.setattr(grids, "grid", lambda name, profile: [])
    found = claims.answers(grids.rows(page), page)
    assert set(found["answer"]) == {OPEN}
    assert len(found) == found["says"].nunique()


def test_every_claim_chooses_sides_that_its_grid_computes():
    place, planned = ("method", "space", "dataset", "n_train", "profile"), {}
    for page in {claim.page for claim in claims.claims()}:
        first = [each for profile in grids.RECORDED_PROFILES for each in grids.grid(page, profile) if each.seed == 0]
        planned[page] = [
            {name: getattr(e, name) for name in place} | e.accepted() | dict(e.resolved().settings) for e in first
        ]
    for claim in claims.claims():
        for side in (claim.one, claim.other):
            assert any(side.items() <= each.items() for each in planned[claim.page]), claim.says


@pytest.mark.parametrize("page", grids.names())
def test_every_claim_has_pairs_once_its_page_is_recorded(page, monkeypatch):
    asked = [claim for claim in claims.claims() if claim.page == page]
    told = {claim.metric: 0.5 for claim in asked} | {"source": "a table", "seconds": 1.0}

    def recorded(experiments):
        return [{**vars(e.resolved()), **told} if e.seed == 0 else None for e in experiments]

    monkeypatch.setattr(grids, "recorded", recorded)
    rows = grids.rows(page)
    assert [claim.says for claim in asked if claims.pairs(rows, claim).empty] == []


def test_a_claim_is_said_once_and_fits_its_figure():
    said = [(claim.page, claim.says) for claim in claims.claims()]
    assert len(set(said)) == len(said)
    assert [says for _, says in said if len(says) > 64] == []


def test_a_claim_may_name_the_space_and_the_size_of_its_sides(ask):
    """A few guided runs against many random ones: sizes differ, and the line says that of the first side."""
    few, many = {"method": "a", "space": "toy", "n_train": 78}, {"method": "b", "space": "toy", "n_train": 2000}
    asked = Claim("page", "A few beat many", "Table 1", one=few, other=many)
    other = [a - 0.02 - 0.001 * seed for seed, a in enumerate(A)]
    answers = ask(rows({("a", 78): A, ("b", 2000): other, ("a", 39): A}), asked)
    assert answers["answer"].tolist() == [HOLDS, HIGHER, HIGHER]
    assert answers["where"].tolist() == ["", "toy", "toy, 78"]


def test_means_use_all_recorded_seeds(monkeypatch):
    """A page that computes three seeds shows the ten that another page has recorded at the same place."""
    few = [e for e in grids.grid("peers", only={"method": "hypernas", "space": "nasbench201"}) if e.n_train == 78]
    assert len(few) == 3
    monkeypatch.setattr(grids, "grid", lambda name, profile: few if profile == "standard" else [])
    told = {"source": "a table", "seconds": 1.0, "kendall_tau": 0.5}
    monkeypatch.setattr(grids, "recorded", lambda experiments: [{**vars(e.resolved()), **told} for e in experiments])
    assert sorted(grids.rows("peers")["seed"]) == list(range(10))


def test_a_claim_about_cost_is_held_against_what_was_measured_on_each_kind_of_images(ask, monkeypatch):
    """A factor of 3 on the digits and of 1,100 on CIFAR-10: a factor of 1,000 holds on one of the two."""
    ratios = {"digits": [3.0, 3.1, 2.9, 3.0, 3.1], "cifar10": [1100.0, 1120.0, 1090.0, 1105.0, 1095.0]}
    row = {"space": "toy", "dataset": "toyset", "n_train": 156, "started": "2026-11-29", "ratio": ratios}
    older = row | {"started": "2026-11-28", "ratio": 7.0}
    monkeypatch.setattr(claims.Results, "rows", lambda self: [older, row])
    claim = Claim("page", "costs 1,000 times", "Table 11", measured="ratio", metric="ghn_over_hypernas", least=1000.0)
    answers = ask(pd.DataFrame(), claim)
    assert whole(answers)["answer"] == PARTLY
    assert spaces(answers)["answer"].tolist() == [LOWER, HIGHER]
    assert spaces(answers)["where"].tolist() == ["toy, digits", "toy, cifar10"]
    assert pages.in_numbers(answers).startswith("toy, digits 3.0 [2.9, 3.1], 5 runs; toy, CIFAR-10 1,102.0")
    monkeypatch.setattr(claims.Results, "rows", lambda self: [older])
    assert whole(ask(pd.DataFrame(), claim))["answer"] == OPEN
