"""Claims about what a practitioner does: sample, fit with an honest estimate, predict, rank."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hypernas import predictors, spaces
from hypernas.cli import main
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab import practice
from hypernas.lab.experiment import settings_of
from hypernas.lab.practice import Estimate, Practice, corrected_interval

QUICK = ["--method", "ridge,graph-features", "--set", "n_trees=20"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """40 labelled cells of NAS-Bench-201 as a CSV file."""
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    practice.labelled("nasbench201", "cifar10", 40, seed=100).to_csv(path, index=False)
    return path


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function (words) -> exit code and output of `hypernas`, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


def table(text):
    return pd.read_csv(io.StringIO(text))


def test_labels_become_a_predictor_with_an_estimate_and_a_ranked_list(command, labels, tmp_path):
    code, told = command("fit", "--space", "nasbench201", "--labels", labels, "-o", "p.hypernas", *QUICK)
    assert code == 0
    lines = told.splitlines()
    assert lines[0] == "40 labels of nasbench201, 5 folds"
    assert lines[1].startswith("11 trainings (cpu): 2 methods on 5 folds each, then the best on all labels; about ")
    assert re.fullmatch(r"ridge +tau 0\.\d+ \(-?0\.\d+ to [01]\.\d+\) +\d+\.\d s", lines[2])
    assert lines[3].startswith("graph-features ")
    assert "As the best of 2, its tau is a little flattered" in lines[4]
    assert lines[5].endswith("fitted to all labels, is in p.hypernas")
    (tmp_path / "mine.txt").write_text("# mine\n" + "\n".join(practice.sample("nasbench201", 20, 5)) + "\n\n")
    predicted = table(command("predict", "p.hypernas", "mine.txt")[1])
    assert predicted["notation"].tolist() == practice.sample("nasbench201", 20, 5)
    ranked = table(command("rank", "p.hypernas", "mine.txt", "--top", 7)[1])
    expected = predicted.sort_values("accuracy", ascending=False, kind="stable").head(7)
    assert ranked["notation"].tolist() == expected["notation"].tolist()
    assert command("rank", "p.hypernas", "mine.txt", "-o", "ranked.csv") == (0, "")
    assert len(pd.read_csv(tmp_path / "ranked.csv")) == 20
    drawn = table(command("rank", "p.hypernas", "--sample", 30)[1])
    assert len(drawn) == 30
    assert drawn["accuracy"].is_monotonic_decreasing


def test_predictions_of_a_csv_are_those_of_its_notations(command, labels):
    command("fit", "--space", "nasbench201", "--labels", labels, "-o", "p.hypernas", "--method", "ridge")
    code, told = command("predict", "p.hypernas", labels)
    assert code == 0
    assert table(told)["notation"].tolist() == pd.read_csv(labels)["notation"].tolist()


def test_folds_are_equally_large_disjoint_and_what_is_tested_is_not_fitted():
    space = spaces.get("nasbench201")
    for n, k in ((5, 2), (11, 2), (17, 4), (43, 5)):
        notations = practice.sample(space, n, seed=1)
        here = Practice(space, pd.DataFrame({"notation": notations, "accuracy": np.linspace(80, 90, n)}))
        folds = here.folds()
        tested = np.concatenate([test for _, test in folds])
        assert len(folds) == k
        assert {len(test) for _, test in folds} == {n // k}
        assert len(set(tested)) == len(tested)
        assert all(sorted([*train, *test]) == [*range(n)] for train, test in folds)


def test_the_interval_of_folds_is_wider_than_that_of_independent_values():
    values = [0.7, 0.8, 0.75, 0.85, 0.9]
    low, high = corrected_interval(values, 0.25)
    plain_low, plain_high = corrected_interval(values, 0.0)
    assert (high - low) == pytest.approx((plain_high - plain_low) * 1.5)
    assert low + high == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("taus", "words"),
    [
        ((0.9, 0.91, 0.92, 0.9, 0.91), "mine ranks better than ridge"),
        ((0.5, 0.51, 0.52, 0.5, 0.51), "ridge, the floor, wins: mine is not above it .* Use --method ridge"),
        ((0.5, 0.99, 0.52, 0.99, 0.7), "No clear difference: mine less ridge is"),
    ],
)
def test_the_verdict_says_whether_the_floor_wins(taus, words):
    floor = Estimate("ridge", (0.7, 0.71, 0.72, 0.7, 0.71), 0.25, 1.0)
    assert re.match(words, practice.verdict(Estimate("mine", taus, 0.25, 1.0), floor, 1))


def test_auto_tries_the_methods_without_epochs_first_and_begins_none_after_its_seconds(command, labels):
    here = Practice("nasbench201", labels)
    candidates = here.candidates("auto")
    quick = [name for name in candidates if "epochs" not in settings_of(name)]
    assert candidates[: len(quick)] == quick
    assert {"ridge", "trees", "graph-features"} <= {*quick}
    need_images = {"ghn", "ghn2", "hypernas", "hypernas-cv", "hypernas-h", "hypernas-sharing", "parzc"}
    assert {*candidates} == {*predictors.names()} - need_images
    assert [estimate.method for estimate in here.estimates("auto", seconds=0)] == ["ridge"]
    code, told = command("fit", "--space", "nasbench201", "--labels", labels, "-o", "p.hypernas", "--seconds", 0)
    assert code == 0
    assert "not tried after 0 s: graph-features, trees, hypernas-p" in told


def test_one_method_is_tried_however_few_the_seconds(labels):
    estimates = list(Practice("nasbench201", labels).estimates("trees", seconds=0))
    assert [estimate.method for estimate in estimates] == ["ridge", "trees"]


def test_the_cost_is_a_number_of_trainings_and_a_time_where_rows_are_recorded(labels, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from hypernas.predictors.ridge import Ridge\nMETHODS = {'mine': Ridge}\n")
    monkeypatch.setenv("HYPERNAS_PLUGINS", str(tmp_path))
    here = Practice("nasbench201", labels)
    assert re.search(r": 1 method on 5 folds each, .*; about 1 s by recorded rows$", here.cost("ridge", 60))
    assert "16 trainings (cuda): 3 methods" in here.cost("trees,mine", 60, "cuda")
    told = here.cost("hypernas-p,mine", 60)
    minutes = re.search(r"about (\d+) min by recorded rows, without mine, of which none is recorded", told)
    assert 1 <= int(minutes[1]) <= 30
    assert told.endswith("; no method begins after 60 s")


def test_a_fold_is_fitted_as_the_method_alone_would_be(labels):
    here = Practice("nasbench201", labels, {"epochs": "2", "width": "8", "n_layers": "1"})
    estimate = here.estimate("np")
    graphs = here.benchmark.graphs("contracted")
    for tau, (train, test) in zip(estimate.taus, here.folds(), strict=True):
        alone = predictors.get("np")(epochs=2, width=8, n_layers=1).fit(graphs[train], here.labels[train])
        assert tau == pytest.approx(practice.kendall_tau(alone.predict(graphs[test]), here.labels[test]), abs=0.08)


def test_sampled_architectures_are_different_functions_and_a_seed_repeats_them():
    notations = practice.sample("nasbench201", 200, seed=3)
    space = spaces.get("nasbench201")
    graphs = collate([space.canonical(space.parse(each)) for each in notations], space)
    assert len(set(graphs.function_ids())) == len(notations) == 200
    assert notations == practice.sample("nasbench201", 200, seed=3)


def test_labels_of_the_table_are_its_rows(nasbench201):
    rows = practice.labelled("nasbench201", "cifar10", 10, seed=4)
    train, _ = nasbench201.split(10, 4)
    assert rows["accuracy"].tolist() == nasbench201.validation[train].tolist()
    space = nasbench201.space
    parsed = collate([space.canonical(space.parse(each)) for each in rows["notation"]], space)
    assert (parsed.function_ids() == nasbench201.graphs("contracted")[train].function_ids()).all()


GOOD = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notation,accuracy\n" + "\n".join(f"{GOOD},9{i}" for i in range(3)), "at least 5"),
        ("notation,accuracy\n" + f"{GOOD},90\n" * 6, "labels must be of at least 5 different architectures, got 1"),
        ("notation,accuracy\n" + f"{GOOD},90\n" * 5 + f"{GOOD},91", "must have one accuracy, got 90 in row 0 and 91"),
        ("notation,accuracy\n" + f"{GOOD.replace('none', 'non')},90\n" * 6, "operation must be one of"),
        ("notation,top1\n" + f"{GOOD},90\n" * 6, "accuracy"),
        ("notation,accuracy\n" + f"{GOOD},good\n" * 6, "accuracy"),
        ("", "labels"),
    ],
)
def test_labels_that_are_none_are_one_sentence_and_write_nothing(command, tmp_path, text, words):
    (tmp_path / "bad.csv").write_text(text)
    code, told = command("fit", "--space", "nasbench201", "--labels", "bad.csv", "-o", "p.hypernas", *QUICK)
    assert code == 2
    assert len(told.strip().splitlines()) == 1
    assert words in told
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "gpt"], "method must be one of"),
        (
            ["--method", "ridge", "--set", "epochs=3"],
            "a setting of ridge must be one of counts, graph_form, got 'epochs'",
        ),
        (["--space", "mars"], "search space must be one of"),
        (["--method", "np", "--set", "epochs=many"], "epochs must be a whole number, got 'many'"),
        (["--method", "ridge", "--device", "cuda"], "device must be cpu for ridge"),
    ],
)
def test_a_wrong_choice_is_one_sentence(command, labels, words, told):
    base = {"--space": "nasbench201", "--labels": labels, "-o": "p.hypernas"}
    options = {**base, **dict(zip(words[::2], words[1::2], strict=True))}
    code, said = command("fit", *(word for pair in options.items() for word in pair))
    assert (code, len(said.strip().splitlines())) == (2, 1)
    assert told in said


def test_what_cannot_be_ranked_is_one_sentence(command, labels, tmp_path):
    command("fit", "--space", "nasbench201", "--labels", labels, "-o", "p.hypernas", "--method", "ridge")
    (tmp_path / "bad.txt").write_text("conv3x3(0)|output(1)\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for words, told in (
        (["predict", "p.hypernas", "bad.txt"], "a nasbench201 cell"),
        (["predict", "p.hypernas", "absent.txt"], "architectures must be in a file that can be read"),
        (["predict", "absent.hypernas", "bad.txt"], "a saved predictor must be a file, got absent.hypernas"),
        (["predict", "bad.txt", "bad.txt"], "must be a file that hypernas.save wrote"),
        (["rank", "p.hypernas", "empty.txt"], "architectures must be listed one a line, got none in empty.txt"),
        (["rank", "p.hypernas"], "what is ranked must be one of a file and --sample"),
        (["rank", "p.hypernas", "bad.txt", "--sample", 3], "what is ranked must be one of a file and --sample"),
        (["rank", "p.hypernas", "--sample", 3, "--space", "vit"], "must be of the space vit"),
    ):
        code, said = command(*words)
        assert (code, len(said.strip().splitlines())) == (2, 1), said
        assert told in said
    with pytest.raises(UserError, match="architectures must be in a file"):
        practice.read_architectures(tmp_path)
