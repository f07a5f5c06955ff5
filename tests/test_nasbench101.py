"""Claims about NAS-Bench-101: rules written out slowly here against the fast encodings of the library."""

import itertools

import numpy as np
import pytest
import torch

from hypernas import spaces
from hypernas.data import Table, catalogue
from hypernas.errors import MissingTable, UserError
from hypernas.graph import Architecture, Cell, collate
from hypernas.spaces.nasbench101 import CONV3, INPUT, OUTPUT

SPACE = spaces.get("nasbench101")
# The cell of the highest mean test accuracy; its network has 32,426,634 trainable parameters.
BEST = "conv1x1(0)|conv3x3(0)|maxpool3x3(2)|conv3x3(3)|conv3x3(0,1,4)|output(0,5)"


def random_columns(n, seed=0):
    """Unpruned cells as the table's columns, most of them outside the space."""
    rng = np.random.default_rng(seed)
    vertices = rng.integers(2, 8, n)
    bits = rng.integers(1 << 21, size=n) & ((1 << (vertices * (vertices - 1) // 2)) - 1)
    return vertices, bits, rng.integers(3, size=(n, 5))


def slow_cell(n, bits, ops):
    """The official pruning, vertex by vertex -> operations and edges, None where disconnected."""
    edges = {(x, y) for y in range(n) for x in range(y) if bits >> (x + y * (y - 1) // 2) & 1}
    forward, backward = {0}, {n - 1}
    for x, y in sorted(edges):
        forward |= {y} if x in forward else set()
    for x, y in sorted(edges, key=lambda edge: -edge[1]):
        backward |= {x} if y in backward else set()
    kept = sorted(forward & backward)
    if len(kept) < 2:
        return None
    labels = [INPUT, *(CONV3 + op for op in ops[: n - 2]), OUTPUT]
    number = {v: i for i, v in enumerate(kept)}
    return [labels[v] for v in kept], {(number[x], number[y]) for x, y in edges if x in number and y in number}


@pytest.fixture
def connected_cells():
    """Random cells that lead from input to output: columns, and what the slow pruning makes of them."""
    vertices, bits, ops = random_columns(400)
    slow = [slow_cell(*row) for row in zip(vertices.tolist(), bits.tolist(), ops.tolist(), strict=True)]
    rows = [i for i, cell in enumerate(slow) if cell is not None]
    assert 100 < len(rows) < 400
    return (vertices[rows], bits[rows], ops[rows]), [slow[i] for i in rows]


def test_pruning_is_the_official_one(connected_cells):
    columns, slow = connected_cells
    graphs = SPACE.encode(*columns, "pruned")
    for i, (ops, edges) in enumerate(slow):
        cell = graphs.architecture(i).cells[0]
        assert list(cell.ops) == ops
        assert {(x, y) for x, row in enumerate(cell.adjacency) for y, there in enumerate(row) if there} == edges


def test_nothing_is_left_to_contract_and_raw_keeps_every_vertex(connected_cells):
    columns, _ = connected_cells
    pruned, contracted, raw = (SPACE.encode(*columns, form) for form in ("pruned", "contracted", "raw"))
    assert all(torch.equal(getattr(pruned, f), getattr(contracted, f)) for f in ("ops", "adjacency", "mask"))
    assert raw.mask[:, 0].sum(1).tolist() == columns[0].tolist()
    assert raw.mask.sum() > pruned.mask.sum()


def test_a_network_is_nine_cells_with_downsampling_after_each_three():
    architecture = SPACE.parse(BEST)
    assert architecture.sequence == (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    assert [SPACE.ops[op] for op in architecture.cells[1].ops] == ["input", "maxpool2x2", "output"]
    assert [cell.kind for cell in architecture.cells] == [0, 1]


def test_the_space_has_as_many_small_cells_as_the_table():
    """Up to isomorphism 1, 6 and 84 cells of 2, 3 and 4 vertices, as the official table has."""
    for n, expected in ((2, 1), (3, 6), (4, 84)):
        labels = [list(inner) + [0] * (7 - n) for inner in itertools.product(range(3), repeat=n - 2)]
        cells = itertools.product(range(1 << n * (n - 1) // 2), labels)
        whole = [(bits, ops) for bits, ops in cells if len((slow_cell(n, bits, ops) or [[]])[0]) == n]
        bits, ops = (np.array(column) for column in zip(*whole, strict=True))
        graphs = SPACE.encode(np.full(len(bits), n), bits, ops, "pruned")
        assert len(set(graphs.function_ids().tolist())) == expected


def test_isomorphic_cells_have_one_function_id():
    one, other = (SPACE.parse(f"conv{a}(0)|conv{b}(0)|output(1,2)") for a, b in (("3x3", "1x1"), ("1x1", "3x3")))
    crossed = SPACE.parse("conv3x3(0)|conv1x1(0,1)|output(1,2)")
    ids = collate([one, other, crossed], SPACE).function_ids()
    assert ids[0] == ids[1] != ids[2]


def test_function_ids_do_not_depend_on_how_many_are_hashed_at_once(connected_cells):
    from hypernas import canonical as hashing

    graphs = SPACE.encode(*connected_cells[0], "pruned")
    arrays = [getattr(graphs, name).numpy() for name in ("ops", "adjacency", "mask", "kind", "sequence")]
    assert (hashing.function_ids(*arrays, chunk=7) == graphs.function_ids()).all()


def test_notation_reads_back(connected_cells):
    columns, _ = connected_cells
    graphs = SPACE.encode(*columns, "pruned")
    for i in range(60):
        cell = graphs.architecture(i).cells[0]
        if sum(map(sum, cell.adjacency)) <= 9:
            assert SPACE.parse(SPACE.format(cell)).cells[0] == cell
    long = "conv3x3-bn-relu(0)|conv1x1-bn-relu()|output(1)"
    assert SPACE.parse(long).notation == "conv3x3(0)|conv1x1()|output(1)"
    assert SPACE.canonical(SPACE.parse(long)).notation == "conv3x3(0)|output(1)"


def test_samples_and_mutants_stay_inside_the_space_and_move():
    rng = np.random.default_rng(0)
    architecture, sizes = SPACE.sample(rng), set()
    for _ in range(120):
        mutant = SPACE.mutate(architecture, rng)
        assert mutant.notation != architecture.notation
        assert SPACE.parse(mutant.notation) == mutant == SPACE.canonical(mutant)
        sizes.add(len(mutant.cells[0].ops))
        architecture = mutant
    assert sizes >= {4, 5, 6, 7}
    assert len({SPACE.sample(rng).notation for _ in range(20)}) > 15


WIDE = "conv3x3(0)|conv3x3(0)|conv3x3(0)|conv3x3(0)|conv3x3(0)|output(1,2,3,4,5)"


@pytest.mark.parametrize(
    ("notation", "rule"),
    [
        ("|".join(f"conv3x3({i})" for i in range(6)) + "|output(6)", "from 2 to 7 vertices, got 8"),
        (WIDE, "at most 9 edges, got 10"),
        ("conv3x3(0)|output()", "disconnected"),
        ("conv3x3()|output(1)", "disconnected"),
        ("conv5x5(0)|output(1)", "operation must be one of output, conv3x3, conv1x1, maxpool3x3, got 'conv5x5'"),
        ("conv3x3(0)|output(2)", "vertices before it, got 2"),
        ("output(0)|conv3x3(0)", "input, operations"),
        ("conv3x3 0", "lists its vertices as"),
        ("", "lists its vertices as"),
    ],
)
def test_a_cell_outside_the_space_is_one_sentence(notation, rule):
    with pytest.raises(UserError, match=rule.replace("(", r"\(")) as caught:
        SPACE.parse(notation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("act", [SPACE.canonical, SPACE.build, SPACE.count])
def test_cells_made_by_hand_are_checked_too(act):
    rows = tuple(tuple(int(y == x + 1) for y in range(8)) for x in range(8))
    with pytest.raises(UserError, match="from 2 to 7 vertices, got 8"):
        act(Architecture((Cell((INPUT, *[CONV3] * 6, OUTPUT), rows),), (0,)))
    with pytest.raises(UserError, match="disconnected"):
        act(Architecture((Cell((INPUT, OUTPUT), ((0, 0), (0, 0))),), (0,)))
    with pytest.raises(UserError, match="operations among"):
        act(Architecture((Cell((INPUT, INPUT, OUTPUT), ((0, 1, 0), (0, 0, 1), (0, 0, 0))),), (0,)))


def put_table(folder, n=60):
    """A table in the compact form with the space's first cells: labels for each third row."""
    rng = np.random.default_rng(0)
    samples = [SPACE.canonical(SPACE.sample(rng)) for _ in range(n)]
    columns = [SPACE._columns(sample) for sample in samples]
    arrays = dict(zip(("n_vertices", "adj_bits", "ops"), map(np.concatenate, zip(*columns, strict=True)), strict=True))
    arrays["trainable_parameters"] = SPACE.trainable_parameters(SPACE.encode(*arrays.values(), "pruned"))
    arrays["test_correct_sum3"] = rng.integers(20000, 28000, n)
    arrays["val_index"] = np.arange(0, n, 3)
    arrays["val_correct"] = rng.integers(7000, 9400, (len(arrays["val_index"]), 4))
    path = folder / "nasbench101" / "nasbench101_official.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return arrays


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_only_rows_with_validation_labels_are_in_the_pool(empty):
    from hypernas.lab.benchmark import Benchmark

    arrays = put_table(empty)
    benchmark = Benchmark("nasbench101", "cifar10")
    train, test = benchmark.split(20, seed=3)
    assert sorted(train.tolist()) == arrays["val_index"].tolist()
    assert len(test) == 40
    assert benchmark.validation[3].item() == pytest.approx(arrays["val_correct"][1, 3] / 99.84)
    assert benchmark.test[7].item() == pytest.approx(arrays["test_correct_sum3"][7] / 299.52)
    with pytest.raises(UserError, match="at most 20 for nasbench101 cifar10, got 21"):
        benchmark.split(21, seed=0)


def test_a_missing_table_names_the_command_that_brings_it(empty):
    with pytest.raises(MissingTable, match="hypernas data fetch nasbench101"):
        SPACE.read("cifar10")


def test_check_finds_a_wrong_parameter_count(empty):
    put_table(empty)
    table = SPACE.read("cifar10")
    assert "all 60 rows" in SPACE.check(table)
    columns = dict(table.columns)
    columns["trainable_parameters"] = columns["trainable_parameters"] + (np.arange(60) == 17)
    with pytest.raises(UserError, match="row 17 must have"):
        SPACE.check(Table(table.source, table.kind, columns, table.validation, table.test))


@pytest.mark.skipif(catalogue.locate(catalogue.get_source("nasbench101")) is None, reason="needs the compact table")
def test_a_sample_of_the_table_has_the_parameters_it_states():
    table = SPACE.read("cifar10")
    rows = np.random.default_rng(0).choice(len(table), 500, replace=False)
    part = Table("", "measured", {k: v[rows] for k, v in table.columns.items()}, table.validation, table.test)
    assert "all 500 rows" in SPACE.check(part)
    assert len(set(SPACE.graphs(part, "pruned").function_ids().tolist())) == 500


def test_the_paper_profile_builds_the_whole_network():
    from hypernas.lab.experiment import Experiment

    asked = Experiment("toy", "nasbench101", "cifar10", "hypernas", 10, 0, profile="paper")
    assert asked.resolved().settings["cells_per_stage"] == 3
    assert (
        Experiment("toy", "nasbench201", "cifar10", "hypernas", 10, 0, profile="paper")
        .resolved()
        .settings["cells_per_stage"]
        == 5
    )


@pytest.mark.parametrize(("method", "profile", "channels"), [
    ("hypernas", "standard", 8), ("ghn2", "quick", 8), ("hypernas-p", "standard", None), ("np", "standard", None),
    ("hypernas", "paper", 16),
])  # fmt: skip
def test_networks_on_digits_are_wide_enough_for_cells_that_share_channels(method, profile, channels):
    from hypernas.lab.experiment import Experiment

    settings = Experiment("toy", "nasbench101", "cifar10", method, 10, 0, profile=profile).resolved().settings
    assert settings.get("channels") == channels
    assert settings.get("image_batch") == (64 if channels == 8 else None)
