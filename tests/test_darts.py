"""Claims about DARTS: its graphs, its samples, its table."""

import pytest
from doubles import present

from hypernas import spaces
from hypernas.errors import MissingTable
from hypernas.graph import collate
from hypernas.lab.benchmark import Benchmark
from hypernas.spaces.genotypes import OPERATIONS, parse

SPACE = spaces.get("darts")
# The second-order DARTS genotype of Liu et al. (2019).
V2 = """Genotype(
  normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
          ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
  normal_concat=[2, 3, 4, 5],
  reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
          ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
  reduce_concat=[2, 3, 4, 5])"""
EVERY = V2.replace("('sep_conv_3x3', 1)", "('dil_conv_5x5', 1)", 1).replace("skip_connect', 0", "avg_pool_3x3', 0", 1)
EVERY = EVERY.replace("('max_pool_3x3', 0)", "('skip_connect', 0)", 1).replace(
    "('max_pool_3x3', 1)", "('sep_conv_5x5', 1)", 1
)


@pytest.fixture(scope="module")
def table():
    return present(SPACE, "cifar10")


def test_a_raw_cell_has_two_inputs_eight_operations_four_sums_and_an_output():
    architecture = SPACE.parse(V2)
    for cell, edges in zip(architecture.cells, (parse(V2).normal, parse(V2).reduce), strict=True):
        names = [SPACE.ops[op] for op in cell.ops]
        assert names[:2] + names[-1:] == ["c_{k-2}", "c_{k-1}", "output"]
        assert names.count("sum") == 4
        assert sorted(n for n in names if n in OPERATIONS) == sorted(name for name, _ in edges)
        reads = [sum(row[i] > 0 for row in cell.adjacency) for i in range(15)]
        assert [reads[i] for i, name in enumerate(names) if name in OPERATIONS] == [1] * 8
        assert [reads[i] for i, name in enumerate(names) if name == "sum"] == [2] * 4
        assert reads[-1] == 4


def test_contraction_removes_identities_and_keeps_skips_that_halve():
    contracted = SPACE.canonical(SPACE.parse(EVERY))
    skip = SPACE.ops.index("skip_connect")
    counts = [cell.ops.count(skip) for cell in contracted.cells]
    normal, reduce = parse(EVERY).normal, parse(EVERY).reduce
    assert counts == [0, sum(name == "skip_connect" and state < 2 for name, state in reduce)]
    assert counts[1] == 1
    assert len(contracted.cells[0].ops) == 15 - sum(name == "skip_connect" for name, _ in normal)


def ids(*notations):
    return collate([SPACE.canonical(SPACE.parse(each)) for each in notations], SPACE).function_ids().tolist()


def test_the_order_of_a_nodes_edges_is_no_difference_and_which_operations_share_a_sum_is():
    pair = "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)"
    assert pair in V2.replace("\n          ", " ")
    flat = V2.replace("\n          ", " ")
    swapped = flat.replace(pair, "('skip_connect', 0), ('sep_conv_3x3', 1), ('dil_conv_3x3', 2), ('skip_connect', 0)")
    other = flat.replace(pair, "('sep_conv_3x3', 1), ('dil_conv_3x3', 2), ('skip_connect', 0), ('skip_connect', 1)")
    same = ids(flat, swapped, other)
    assert same[0] == same[1] != same[2]
    a = flat.replace(pair, "('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 0), ('dil_conv_3x3', 2)")
    b = flat.replace(pair, "('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('max_pool_3x3', 0), ('dil_conv_3x3', 2)")
    assert len(set(ids(a, b))) == 2


def test_a_mutation_changes_one_edge_and_every_edge_is_changed_some_time(rng):
    parent, changed, kinds = SPACE.sample(rng), set(), set()
    before = SPACE.genotype(parent)
    for _ in range(150):
        after = SPACE.genotype(SPACE.mutate(parent, rng))
        pairs = [
            (c, i, old, new)
            for c in ("normal", "reduce")
            for i, (old, new) in enumerate(zip(getattr(before, c), getattr(after, c), strict=True))
            if old != new
        ]
        ((cell, i, old, new),) = pairs
        changed.add((cell, i))
        kinds.add((old[0] != new[0], old[1] != new[1]))
    assert len(changed) == 16
    assert kinds == {(True, False), (False, True)}


def test_samples_use_all_operations_and_all_states(rng):
    sampled = [SPACE.genotype(SPACE.sample(rng)) for _ in range(200)]
    edges = [(i // 2, *edge) for g in sampled for cell in (g.normal, g.reduce) for i, edge in enumerate(cell)]
    assert {name for _, name, _ in edges} == set(OPERATIONS)
    assert {(node, state) for node, _, state in edges} == {(i, s) for i in range(4) for s in range(2 + i)}


def test_the_table_is_a_surrogates_and_says_so(table):
    benchmark = Benchmark("darts", "cifar10")
    assert len(benchmark) == 725 == len(set(benchmark.function_ids))
    assert table.kind == "surrogate"
    assert "surrogate" in table.source
    assert "none of them measured" in table.source
    assert 91 < table.test.min() < table.test.max() < 95


def test_without_its_file_the_table_says_where_it_comes_from(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingTable, match=r"no darts table is present: put darts/nasbench301_725\.json under"):
        SPACE.read("cifar10")
