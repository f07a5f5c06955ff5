"""Claims about what a fitted predictor knows: its space, its graph form, its labels, and what it is asked about."""

import numpy as np
import pandas as pd
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.training.labels import LabelScale
from hypernas.training.training_set import accuracies

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"


@pytest.fixture(scope="module")
def fitted(nasbench201):
    """Graph form -> a predictor trained on 30 graphs of that form."""
    some = torch.arange(0, 15000, 500)
    make = predictors.get("graph-features")
    return {
        form: make(n_trees=20).fit(nasbench201.graphs(form)[some], nasbench201.validation[some])
        for form in ("raw", "pruned", "contracted")
    }


def test_a_predictor_knows_the_space_form_and_table_it_was_trained_on(fitted, nasbench201):
    known = fitted["contracted"].training_set
    assert (known.space, known.graphs.graph_form) == ("nasbench201", "contracted")
    assert known.graphs.source == f"cifar10, {nasbench201.table.source}"
    assert len(known.accuracy) == 30


@pytest.mark.parametrize("form", ["pruned", "contracted"])
def test_raw_graphs_get_the_answers_of_their_simplified_form(fitted, nasbench201, form):
    some = torch.arange(7, 15000, 999)
    raw, simplified = (nasbench201.graphs(each)[some] for each in ("raw", form))
    expected = fitted[form].predict(simplified)
    assert torch.equal(fitted[form].predict(raw), expected)
    space = nasbench201.space
    unlabelled = collate([raw.architecture(i) for i in range(len(raw))], space)
    assert unlabelled.graph_form == ""
    assert torch.equal(fitted[form].predict(unlabelled), expected)


def test_architectures_and_notations_get_the_answer_of_their_graph(fitted, nasbench201):
    space, predictor = nasbench201.space, fitted["contracted"]
    architecture = space.parse(CELL)
    expected = predictor.predict(collate([space.canonical(architecture)], space, "contracted"))
    for given in (architecture, [architecture], (architecture,), CELL, [CELL], space.canonical(architecture)):
        assert torch.equal(predictor.predict(given), expected)


def test_one_index_is_a_batch_of_one_and_an_empty_slice_has_no_prediction(fitted, nasbench201):
    predictor, graphs = fitted["contracted"], nasbench201.graphs("contracted")
    assert torch.equal(predictor.predict(graphs[5]), predictor.predict(graphs[5:6]))
    assert torch.equal(predictor.predict(graphs[np.int64(-1)]), predictor.predict(graphs[-1:]))
    assert predictor.predict(graphs[:0]).shape == predictor.predict([]).shape == (0,)
    with pytest.raises(IndexError, match="index must be below 15625, got 15625"):
        graphs[15625]


@pytest.mark.parametrize("name", ["nasbench101", "darts", "vit"])
def test_architectures_of_another_space_are_refused(fitted, name, rng):
    space = spaces.get(name)
    other = collate([space.sample(rng)], space)
    with pytest.raises(UserError, match=f"architectures of nasbench201, as fit had, got those of {name}"):
        fitted["contracted"].predict(other)
    with pytest.raises(UserError):
        fitted["contracted"].predict([space.sample(rng)])


@pytest.mark.parametrize(("wanted", "given"), [("raw", "pruned"), ("raw", "contracted"), ("pruned", "contracted")])
def test_graphs_that_have_lost_what_the_predictor_reads_are_refused(fitted, nasbench201, wanted, given):
    with pytest.raises(UserError, match=f"predict needs {wanted} graphs, as fit had, got {given} ones"):
        fitted[wanted].predict(nasbench201.graphs(given)[:3])


def unmarked(space, architectures, form):
    """Graphs of this form that do not say so."""
    return collate([space.canonical(one, form) for one in architectures], space)


@pytest.fixture(scope="module")
def cells(nasbench201):
    """Twenty NAS-Bench-201 cells, some with a skip connection."""
    rng = np.random.default_rng(0)
    return [nasbench201.space.sample(rng) for _ in range(20)]


def test_pruned_graphs_are_not_taken_for_contracted_ones_nor_these_for_pruned_ones(fitted, nasbench201, cells):
    space = nasbench201.space
    contracted = unmarked(space, cells, "contracted")
    expected = fitted["contracted"].predict(cells)
    without_notation = collate([contracted.architecture(i) for i in range(len(cells))], space)
    assert torch.equal(fitted["contracted"].predict(without_notation), expected)
    pruned = unmarked(space, cells, "pruned")
    pruned = collate([pruned.architecture(i) for i in range(len(cells))], space)
    with pytest.raises(UserError, match=r"predict needs contracted graphs, as fit had, got others .*: give raw graphs"):
        fitted["contracted"].predict(pruned)
    with pytest.raises(UserError, match=r"predict needs pruned graphs, as fit had, got others .*say the form"):
        fitted["pruned"].predict(without_notation)


@pytest.mark.parametrize("form", ["raw", "pruned", "contracted"])
def test_the_form_of_training_graphs_that_do_not_say_it_is_seen(nasbench201, cells, form):
    space = nasbench201.space
    make = predictors.get("trees")
    known = make(n_trees=5).fit(collate([space.canonical(one, form) for one in cells], space, form), range(20))
    seen = make(n_trees=5).fit(unmarked(space, cells, form), range(20))
    assert seen.training_set.graph_form == form
    raw = nasbench201.graphs("raw")[:50]
    assert torch.equal(seen.predict(raw), known.predict(raw))
    assert torch.equal(seen.predict(cells), known.predict(cells))


def test_a_space_whose_forms_all_read_back_takes_unmarked_graphs_for_the_simplest_form():
    space, rng = spaces.get("nasbench101"), np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(12)]
    predictor = predictors.get("trees")(n_trees=5).fit(unmarked(space, architectures, "pruned"), range(12))
    expected = predictor.predict(architectures)
    for form in ("raw", "pruned", "contracted"):
        graphs = collate([space.canonical(one, form) for one in architectures], space, form)
        assert torch.equal(predictor.predict(graphs), expected)


def test_the_forms_of_a_space_with_nothing_to_simplify_are_one(rng):
    space = spaces.get("vit")
    architectures = [space.sample(rng) for _ in range(12)]
    predictor = predictors.get("trees")(n_trees=5).fit(collate(architectures, space, "raw"), range(12))
    assert predictor.predict(collate(architectures, space, "contracted")).shape == (12,)


@pytest.mark.parametrize("given", [5, None, b"x", [5], {5}, np.zeros(3)])
def test_what_is_no_architecture_is_one_sentence(fitted, given):
    with pytest.raises(UserError, match="predict takes a GraphBatch, an architecture, its notation, or a list"):
        fitted["contracted"].predict(given)


def test_labels_are_read_by_position_whatever_holds_them(nasbench201):
    graphs, numbers = nasbench201.graphs("contracted")[:6], [90.0, 91.0, 89.5, 92.0, 88.0, 91.5]
    frame = pd.DataFrame({"accuracy": [0.0, *numbers], "kept": [False] + [True] * 6})
    column = frame[frame["kept"]]["accuracy"]
    make = predictors.get("trees")
    expected = make(n_trees=5).fit(graphs, torch.tensor(numbers).double()).predict(graphs)
    for given in (column, column.astype(object), column.to_numpy(), numbers, tuple(map(str, numbers))):
        assert torch.equal(make(n_trees=5).fit(graphs, given).predict(graphs), expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["good", 90.0], "accuracies must be numbers"),
        ([90.0, None], "finite"),
        (pd.Series([90.0, pd.NA], dtype=object), "accuracies must be numbers"),
        ([[90.0], [91.0, 92.0]], "accuracies must be numbers"),
        ([90e300, 91e300], "at most 1e[+]30 in size, got 9.1e[+]301; give them in percent"),
        ([[90.0, 91.0]], "as a vector"),
        (90.0, "as a vector"),
    ],
)
def test_what_is_no_label_is_one_sentence(nasbench201, given, words):
    with pytest.raises(UserError, match=words):
        predictors.get("trees")(n_trees=5).fit(nasbench201.graphs("contracted")[:2], given)


def test_fit_says_how_architectures_become_graphs(nasbench201):
    with pytest.raises(UserError, match=r"fit needs a GraphBatch, got list: collate\(architectures, space\) makes one"):
        predictors.get("trees")().fit([nasbench201.space.parse(CELL)] * 3, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("scale", [(0.0, float("nan"), 1.0), (0.0, 90.0, float("inf")), (0.0, 90.0, 0.0)])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(UserError, match="a label scale must have a finite mean and a spread above 0"):
        LabelScale(*scale)


def test_predictions_that_are_no_numbers_are_refused(nasbench201):
    graphs = nasbench201.graphs("contracted")[:6]
    predictor = predictors.get("np")(epochs=0, n_layers=1, width=8).fit(graphs, accuracies(range(6)))
    with torch.no_grad():
        next(predictor.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="predictions must be finite, got nan or inf"):
        predictor.predict(graphs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((10, -1), "seed must be from 0"), ((78.0, 0), "n_train must be a whole number"), (("x", 0), "a whole number")],
)
def test_a_split_of_another_kind_is_one_sentence(nasbench201, arguments, words):
    with pytest.raises(UserError, match=words):
        nasbench201.split(*arguments)
