"""What every search space promises, whatever its name, and what a benchmark makes of it."""

import numpy as np
import pytest
import torch

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.lab import space_check


@pytest.fixture(scope="module", params=spaces.names())
def space(request):
    return spaces.get(request.param)


@pytest.fixture(scope="module")
def subject(space):
    return space_check.subject_of(space)


@pytest.mark.parametrize("promise", space_check.PROMISES)
def test_a_space_keeps_its_promise(subject, promise):
    subject.rng = np.random.default_rng(1)
    space_check.PROMISES[promise](subject)


def test_an_unknown_space_is_a_user_error():
    with pytest.raises(UserError, match=r"search space must be one of .*nasbench201.* got 'nasbench999'"):
        spaces.get("nasbench999")


@pytest.mark.parametrize("n_train", [0, 1, -3, 15_626])
def test_a_split_that_cannot_be_is_a_user_error(nasbench201, n_train):
    with pytest.raises(UserError, match=f"n_train must be at least 2 and at most 15625 .*, got {n_train}"):
        nasbench201.split(n_train, 0)


@pytest.mark.parametrize("form", ["round", None, 5, [], {}, ["raw"], np.array([1, 2])])
def test_a_graph_form_that_is_none_is_a_user_error(nasbench201, form):
    architecture = nasbench201.space.sample(0)
    for ask in (nasbench201.graphs, lambda form: nasbench201.space.canonical(architecture, form)):
        with pytest.raises(UserError, match="graph_form must be one of raw, pruned, contracted, got"):
            ask(form)


def test_splits_are_prefixes_of_one_permutation_and_test_on_all_others(nasbench201):
    small, _ = nasbench201.split(39, 3)
    large, rest = nasbench201.split(781, 3)
    assert torch.equal(large[:39], small)
    assert sorted([*large.tolist(), *rest.tolist()]) == list(range(15_625))
    assert small.tolist() == np.random.default_rng(3).permutation(15_625)[:39].tolist()
    assert not torch.equal(small, nasbench201.split(39, 4)[0])


def test_functions_of_a_benchmark_do_not_depend_on_the_form_of_its_graphs(nasbench201):
    assert (nasbench201.function_ids == nasbench201.graphs("contracted").function_ids()).all()
    assert nasbench201.graphs("contracted") is nasbench201.graphs("contracted")
