"""What every search space promises, whatever its name."""

import re

import numpy as np
import pytest
import torch

from hypernas import spaces
from hypernas.data import Table
from hypernas.errors import UserError
from hypernas.graph import GRAPH_FORMS, Architecture, collate
from hypernas.lab.benchmark import Benchmark
from hypernas.method.sizes import map_sizes
from hypernas.method.target_network import TargetHead, count, run

SIZE = {"channels": 4, "cells_per_stage": 1, "stem_stride": 1}


@pytest.fixture(scope="module", params=spaces.names())
def space(request):
    return spaces.get(request.param)


@pytest.fixture
def sampled(space, rng):
    return [space.sample(rng) for _ in range(20)]


@pytest.fixture(scope="module")
def table(space):
    try:
        return space.read(space.datasets[0])
    except UserError as missing:
        pytest.skip(str(missing))


def cost(space, architecture, **size):
    return count(space.build(architecture, **SIZE | size), (3, 16, 16), 5)


def ids(architectures, space):
    return collate(architectures, space).function_ids()


def test_a_space_says_what_it_is(space):
    assert spaces.get(space.name) is space
    assert len(set(space.ops)) == len(space.ops)
    assert space.datasets
    assert isinstance(space.defaults, dict)
    assert space.macro


def test_samples_are_inside_the_space_and_differ(space, sampled):
    assert len(set(sampled)) > 10
    for architecture in sampled:
        assert space.parse(architecture.notation) == architecture
        assert max(max(cell.ops) for cell in architecture.cells) < len(space.ops)


def test_the_same_generator_gives_the_same_architectures(space):
    first, again = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(5):
        a, b = space.sample(first), space.sample(again)
        assert a == b
        assert space.mutate(a, first) == space.mutate(b, again)


def test_a_mutation_is_another_architecture_inside_the_space(space, sampled, rng):
    for architecture in sampled:
        child = space.mutate(architecture, rng)
        assert child != architecture
        assert space.parse(child.notation) == child


@pytest.mark.parametrize("graph_form", GRAPH_FORMS)
def test_canonical_is_idempotent_and_keeps_the_sequence(space, sampled, graph_form):
    for architecture in sampled:
        once = space.canonical(architecture, graph_form)
        assert space.canonical(once, graph_form) == once
        assert once.sequence == architecture.sequence


def test_cleaner_forms_are_never_larger(space, sampled):
    for architecture in sampled:
        sizes = [len(space.canonical(architecture, form).cells[0].ops) for form in GRAPH_FORMS]
        assert sizes == sorted(sizes, reverse=True)


def test_cleaning_of_the_text_is_cleaning_of_the_architecture(space, sampled):
    for architecture in sampled:
        text = space.canonical(architecture, "pruned").notation
        assert (ids([space.canonical(space.parse(text))], space) == ids([space.canonical(architecture)], space)).all()


@pytest.mark.parametrize("graph_form", GRAPH_FORMS)
def test_graphs_of_the_table_are_the_parsed_architectures(space, table, graph_form, rng):
    """A table's rows, encoded at once, against each row cleaned by itself and collated."""
    rows = rng.choice(len(table), 60, replace=False)
    few = Table(
        table.source,
        table.kind,
        {k: v[rows] for k, v in table.columns.items()},
        table.validation[rows],
        table.test[rows],
    )
    raw, graphs = space.graphs(few, "raw"), space.graphs(few, graph_form)
    assert len(graphs) == 60
    assert graphs.space is space
    alone = [space.canonical(raw.architecture(i), graph_form) for i in range(60)]
    assert (graphs.function_ids() == ids(alone, space)).all()
    parsed = [
        space.canonical(space.parse(space.canonical(raw.architecture(i), "raw").notation), graph_form)
        for i in range(60)
    ]
    assert parsed == alone


def test_the_table_has_finite_percents_of_all_its_rows(space, table):
    benchmark = Benchmark(space.name, space.datasets[0])
    assert len(benchmark) == len(table) == len(benchmark.graphs("raw"))
    assert 0 <= benchmark.test.nan_to_num(50).min() <= benchmark.test.nan_to_num(50).max() <= 100
    assert benchmark.test.nan_to_num(0).max() > 50
    assert table.source


@pytest.mark.parametrize("graph_form", GRAPH_FORMS)
def test_built_networks_run_and_have_weights_for_real_convolutions_only(space, sampled, graph_form):
    torch.manual_seed(0)
    for architecture in sampled[:5]:
        cleaned = space.canonical(architecture, graph_form)
        program = space.build(cleaned, **SIZE)
        head = TargetHead(3, program.channels, program.c_last, 5, 1)
        logits = run(
            program, {c.weight: torch.randn(c.weight_shape) for c in program.convs}, head, torch.randn(2, 3, 16, 16)
        )
        assert logits.shape == (2, 5)
        assert torch.isfinite(logits).all()
        keys = [layer.weight for layer in program.convs]
        assert len(set(keys)) == len(keys)
        for position, *nodes in keys:
            assert max(nodes) < len(cleaned.cells[cleaned.sequence[position]].ops)


def test_cleaned_networks_cost_no_more(space, sampled):
    for architecture in sampled:
        costs = [cost(space, space.canonical(architecture, form)) for form in ("raw", "pruned")]
        assert 0 < costs[1][0] <= costs[0][0]
        assert 0 < costs[1][1] <= costs[0][1]


def test_a_network_has_parameters_and_multiply_adds_that_cleaning_does_not_raise(space, sampled):
    for architecture in sampled[:3]:
        counts = [space.count(space.canonical(architecture, form)) for form in ("raw", "pruned")]
        assert 10_000 < counts[1][0] <= counts[0][0]
        assert counts[1][0] < counts[1][1] <= counts[0][1]


def test_more_channels_and_cells_make_larger_networks(space, sampled):
    for architecture in sampled[:5]:
        small = cost(space, architecture)
        assert cost(space, architecture, channels=8) > small
        assert cost(space, architecture, cells_per_stage=2) >= small
        assert len(map_sizes(space.build(architecture, **SIZE), 16, 16)) > 1


@pytest.mark.parametrize(
    "notation", ["", "nonsense", "|conv9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|", "conv9x9(0)|output(1)"]
)
def test_text_of_no_architecture_is_a_user_error(space, notation):
    with pytest.raises(UserError):
        space.parse(notation)


def test_a_wrong_word_anywhere_is_a_user_error_and_a_wrong_operation_is_named(space, sampled):
    notation, told = sampled[0].notation, []
    for word in dict.fromkeys(re.findall(r"[\w-]+", notation)):
        with pytest.raises(UserError) as caught:
            space.parse(notation.replace(word, "fourier", 1))
        told.append(str(caught.value))
    assert any(re.search(r"operation must be one of .* got 'fourier'", each) for each in told)


def test_an_unknown_dataset_is_a_user_error(space):
    with pytest.raises(UserError, match=r"dataset must be one of .* got 'mnist'"):
        space.read("mnist")


def test_an_unknown_space_is_a_user_error():
    with pytest.raises(UserError, match=r"search space must be one of .*nasbench201.* got 'nasbench999'"):
        spaces.get("nasbench999")


@pytest.mark.parametrize("n_train", [0, 1, -3, 15_626])
def test_a_split_that_cannot_be_is_a_user_error(nasbench201, n_train):
    with pytest.raises(UserError, match=f"n_train must be at least 2 and at most 15625 .*, got {n_train}"):
        nasbench201.split(n_train, 0)


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


def test_an_architecture_that_is_not_of_the_space_cannot_be_cleaned(space, architecture):
    foreign = Architecture(architecture(n_nodes=(11, 4)).cells, (0, 1))
    with pytest.raises(UserError):
        space.canonical(foreign)
