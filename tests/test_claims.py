"""What a page says of a claim follows from the paired interval."""

import pandas as pd
import pytest

from hypernas.errors import UserError
from hypernas.lab import claims, grids
from hypernas.lab import rows as results
from hypernas.lab.claims import FAILS, FEW, HOLDS, NONE, UNCLEAR, Claim

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


@pytest.mark.parametrize(
    ("gaps", "answer"),
    [
        ([0.02, 0.03, 0.01, 0.02, 0.04, 0.02], HOLDS),
        ([-0.02, -0.03, -0.01, -0.02, -0.04, -0.02], FAILS),
        ([0.04, -0.05, 0.01, -0.02, 0.03, 0.00], UNCLEAR),
        ([0.02, 0.03, 0.01, 0.02], FEW),
        ([0.02], FEW),
        ([], NONE),
    ],
)
def test_the_answer_follows_from_the_paired_interval(ask, gaps, answer):
    other = [a - gap for a, gap in zip(A, gaps, strict=False)]
    found = ask(rows({("a", 78): A[: len(gaps)] or A, ("b", 78): other}))
    assert found.iloc[0]["answer"] == answer
    assert found.iloc[0]["n_seeds"] == len(gaps)
    assert found.iloc[0]["difference"] == pytest.approx(sum(gaps) / len(gaps) if gaps else float("nan"), nan_ok=True)
    text = claims.in_words(found)
    assert f"**A ranks better than B** (Table 1): *{answer}*" in text
    assert [other for other in claims.ANSWERS if f"*{other}*" in text] == [answer]


def test_pairs_of_one_seed_tell_what_two_means_cannot(ask):
    other = [a - 0.01 for a in A]
    assert ask(rows({("a", 78): A, ("b", 78): other})).iloc[0]["answer"] == HOLDS
    assert ask(rows({("a", 78): A, ("b", 78): other[::-1]})).iloc[0]["answer"] == UNCLEAR


def test_each_place_has_its_own_answer_and_a_seed_counts_once_on_average(ask):
    up, down = [a - 0.02 for a in A], [a + 0.01 for a in A]
    found = ask(rows({("a", 39): A, ("b", 39): up, ("a", 78): A, ("b", 78): down}))
    assert found["where"].tolist() == ["", "toy, 39", "toy, 78"]
    assert found["answer"].tolist() == [HOLDS, HOLDS, FAILS]
    assert found["n_seeds"].tolist() == [6, 6, 6]
    assert found["difference"].tolist() == pytest.approx([0.005, 0.02, -0.01])
    text = claims.in_words(found)
    assert "*holds*, +0.005, +0.005 to +0.005, 6 seeds." in text
    assert "- holds at toy, 39 (+0.020, +0.020 to +0.020, 6 seeds)" in text
    assert "- does not hold at toy, 78 (−0.010, −0.010 to −0.010, 6 seeds)" in text


def test_three_seeds_are_too_few_however_alike_they_are(ask):
    three = rows({("a", 78): A[:3], ("b", 78): [a - 0.1 for a in A[:3]]})
    assert "*too few pairs*, +0.100, +0.100 to +0.100, 3 seeds" in claims.in_words(ask(three))
    two_spaces = pd.concat([three, three.assign(space="other")], ignore_index=True)
    assert ask(two_spaces)["answer"].tolist() == [HOLDS, FEW, FEW]


def test_only_runs_of_equal_settings_are_partners(ask):
    frame = pd.concat(
        [
            rows({("a", 78): A}, q=1.5, epochs=200),
            rows({("b", 78): A}, epochs=200),
            rows({("b", 78): A}, epochs=20),
        ],
        ignore_index=True,
    )
    assert ask(frame)["n_seeds"].tolist() == [6, 6]
    with pytest.raises(UserError, match="one partner, got two for 'A ranks better"):
        ask(pd.concat([frame, rows({("a", 78): A}, q=2.0, epochs=200)], ignore_index=True))


def test_a_setting_that_a_claim_names_may_differ(ask):
    frame = pd.concat([rows({("a", 78): A}, q=q) for q in (1.5, 2.0)], ignore_index=True)
    frame.loc[frame["q"] == 2.0, "kendall_tau"] -= 0.01
    found = ask(frame, Claim("page", "1.5 is better", "us", one={"q": 1.5}, other={"q": 2.0}))
    assert found.iloc[0]["answer"] == HOLDS
    assert ask(frame, Claim("page", "u", "us", one={"u": 1}, other={"u": 2})).iloc[0]["answer"] == NONE


@pytest.mark.parametrize(("margin", "answer"), [(0.0, FAILS), (0.02, HOLDS)])
def test_a_quoted_figure_is_reached_within_the_margin(ask, tmp_path, monkeypatch, margin, answer):
    (tmp_path / "data").mkdir()
    quoted = "table,space,dataset,method,n_train,metric,value,source\nt,toy,toyset,a,78,kendall_tau,0.62,Table 2\n"
    (tmp_path / "data" / "paper.csv").write_text(quoted)
    monkeypatch.setattr(results, "checkout", lambda: tmp_path)
    claim = Claim("page", "reaches", "Table 2", one={"method": "a"}, paper={"table": "t", "method": "a"}, margin=margin)
    found = ask(rows({("a", 78): [0.61, 0.612, 0.608, 0.61, 0.611], ("a", 39): [0.1] * 5}), claim)
    assert found["where"].tolist() == ["", "toy, 78"]
    assert found["answer"].tolist() == [answer, answer]
    assert found["difference"].iloc[0] == pytest.approx(-0.0098)


def test_figures_are_reached_where_the_place_farthest_below_reaches_them(ask, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    quoted = "table,space,dataset,method,n_train,metric,value,source\n"
    quoted += "".join(f"t,toy,toyset,a,{n},kendall_tau,{tau},Table 2\n" for n, tau in ((39, 0.5), (78, 0.9)))
    (tmp_path / "data" / "paper.csv").write_text(quoted)
    monkeypatch.setattr(results, "checkout", lambda: tmp_path)
    claim = Claim("page", "reaches", "Table 2", one={"method": "a"}, paper={"table": "t", "method": "a"}, margin=0.02)
    found = ask(rows({("a", 78): [0.8] * 5, ("a", 39): [0.9] * 5}), claim)
    assert found["answer"].tolist() == [FAILS, FAILS, HOLDS]
    assert found["worst"].tolist() == ["toy, 78", "", ""]
    said = "*does not hold*, −0.100, −0.100 to −0.100, 5 seeds at toy, 78, the lowest place."
    assert said in claims.in_words(found)
    assert claims.briefly(found) == f"- reaches: {said}"


def test_a_page_without_claims_is_a_user_error():
    with pytest.raises(UserError, match="the page must be one of nasbench101, components"):
        claims.answers(pd.DataFrame(), "weather")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path))


@pytest.mark.parametrize("page", grids.names())
def test_every_page_with_a_grid_has_claims_and_says_so_where_no_rows_are(page, empty, monkeypatch):
    monkeypatch.setattr(grids, "grid", lambda name, profile: [])
    found = claims.answers(grids.rows(page), page)
    assert set(found["answer"]) == {NONE}
    assert claims.in_words(found).count("*no rows yet*") == len(found) == found["says"].nunique()


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
    found = ask(rows({("a", 78): A, ("b", 2000): [a - 0.02 for a in A], ("a", 39): A}), asked)
    assert found["answer"].tolist() == [HOLDS, HOLDS]
    assert found["where"].tolist() == ["", "toy, 78"]
