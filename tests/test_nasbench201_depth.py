"""Claims about the NAS-Bench-201 networks of variable depth whose cells differ."""

import numpy as np
import pytest

from hypernas import spaces
from hypernas.canonical import GRAPH_FORMS
from hypernas.data import labelled
from hypernas.errors import MissingTable, UserError
from hypernas.graph import REDUCTION, Architecture, collate
from hypernas.lab.benchmark import Benchmark

SPACE, FIXED = spaces.get("nasbench201_depth"), spaces.get("nasbench201")
CONV = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
# The edge 0 -> 2 leads on, but 0 -> 1 -> 3 ends in nothing: its convolution computes for no one.
DEAD = "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|none~1|skip_connect~2|"
ALIVE = "|none~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture
def sampled(rng):
    return [SPACE.sample(rng) for _ in range(60)]


def stages(architecture):
    return [part.split() for part in architecture.notation.split("/")]


def test_all_depths_are_drawn_and_every_cell_on_its_own(sampled):
    depths = {tuple(map(len, stages(a))) for a in sampled}
    assert {d for depth in depths for d in depth} == {1, 2, 3}
    assert len(depths) > 15
    for architecture in sampled:
        texts = [cell for stage in stages(architecture) for cell in stage]
        assert len(set(texts)) == len(texts) == len(architecture.cells) - 1
        assert all(FIXED.parse(text).cells[0] == cell for text, cell in zip(texts, architecture.cells, strict=False))


@pytest.mark.parametrize("graph_form", GRAPH_FORMS)
def test_every_position_has_its_own_cell_and_reductions_stand_between_the_stages(sampled, graph_form):
    for architecture in sampled[:9]:
        made = SPACE.canonical(architecture, graph_form)
        last = len(made.cells) - 1
        assert [i for i, cell in enumerate(made.cells) if cell.kind == REDUCTION] == [last]
        assert [u for u in made.sequence if u != last] == list(range(last))
        between = "".join("r" if u == last else "c" for u in made.sequence).split("r")
        assert [len(part) for part in between] == [len(stage) for stage in stages(made)]


def test_notation_parses_back_and_spaces_do_not_matter(sampled):
    for architecture in sampled:
        assert SPACE.parse(architecture.notation) == architecture
        assert SPACE.parse(f" {architecture.notation.replace(' / ', '/')}  ") == architecture
        bare = Architecture(architecture.cells, architecture.sequence)
        assert SPACE.canonical(bare, "raw") == architecture


def test_a_mutation_changes_one_edge_or_one_cell(sampled, rng):
    moves = []
    for architecture in sampled:
        child = SPACE.mutate(architecture, rng)
        assert SPACE.parse(child.notation) == child
        before, after = stages(architecture), stages(child)
        (stage,) = [i for i in range(3) if before[i] != after[i]]
        few, many = sorted((before[stage], after[stage]), key=len)
        if len(few) == len(many):
            (cells,) = [pair for pair in zip(few, many, strict=True) if pair[0] != pair[1]]
            edges = [cell.replace("+", "").split("|") for cell in cells]
            assert sum(a != b for a, b in zip(*edges, strict=True)) == 1
        else:
            assert few in [many[:i] + many[i + 1 :] for i in range(len(many))]
        moves.append(len(after[stage]) - len(before[stage]))
    assert set(moves) == {-1, 0, 1}


def test_dead_edges_do_not_matter_to_the_function_and_depth_and_order_do():
    def ids(*notations):
        return collate([SPACE.canonical(SPACE.parse(n)) for n in notations], SPACE).function_ids()

    assert len(set(ids(f"{CONV} / {DEAD} / {CONV}", f"{CONV} / {ALIVE} / {CONV}"))) == 1
    others = [f"{CONV} / {CONV} / {DEAD}", f"{CONV} / {DEAD} / {CONV} {CONV}", f"{CONV} {DEAD} / {CONV} / {CONV}"]
    assert len(set(ids(f"{CONV} / {DEAD} / {CONV}", *others))) == 4


def test_isomorphic_cells_are_one_function(sampled, twin):
    graphs = [SPACE.canonical(a) for a in sampled[:20]]
    assert (collate(graphs).function_ids() == collate([twin(a) for a in graphs]).function_ids()).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_network_of_equal_cells_is_that_of_nasbench201(depth):
    """The same layers in the same order; the parameters are those that NAS-Bench-201 counts."""
    ours = SPACE.build(SPACE.parse(" / ".join([" ".join([CONV] * depth)] * 3)), channels=8)
    theirs = FIXED.build(FIXED.parse(CONV), channels=8, cells_per_stage=depth)
    plain = [[(x.op, x.inputs, x.c_in, x.c_out, x.kernel, x.stride, x.norm) for x in p.layers] for p in (ours, theirs)]
    assert plain[0] == plain[1]


def test_the_first_cells_of_a_stage_stand_at_one_place_at_any_depth(rng):
    """So that networks of different depth run them together; weights belong to the position in the sequence."""
    shallow, deep = (SPACE.build(SPACE.parse(n)) for n in (f"{CONV}/{CONV}/{CONV}", f"{CONV} {CONV}/{CONV}/{CONV}"))
    assert {x.position for x in shallow.layers} == {0, 3, 4, 7, 8}
    assert {x.position for x in deep.layers} == {0, 1, 3, 4, 7, 8}
    assert [sorted({c.weight[0] for c in p.convs}) for p in (shallow, deep)] == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    assert len({c.weight for c in deep.convs}) == len(deep.convs)


def test_each_cell_costs_and_fewer_cells_a_stage_may_be_built():
    deep = SPACE.parse(f"{CONV} {CONV} {CONV} / {CONV} / {CONV} {CONV}")
    counts = [SPACE.count(SPACE.parse(n)) for n in (f"{CONV}/{CONV}/{CONV}", deep.notation)]
    per_cell = [(9 + 1) * c * c + 4 * c for c in (16, 64)]
    assert counts[1][0] - counts[0][0] == 2 * per_cell[0] + per_cell[1]
    assert counts[1][1] > counts[0][1]
    assert SPACE.build(deep, cells_per_stage=1).layers[0].c_out == 16
    assert len(SPACE.build(deep, cells_per_stage=1).convs) == 3 * 2 + 2 * 3
    assert len(SPACE.build(deep, cells_per_stage=2).convs) == 5 * 2 + 2 * 3
    with pytest.raises(UserError, match="cells_per_stage must be from 1 to 3, got 4"):
        SPACE.build(deep, cells_per_stage=4)


@pytest.mark.parametrize(
    ("notation", "words"),
    [
        (CONV, "has 3 stages, written CELL CELL / CELL / CELL, got 1 in"),
        (" / ".join([CONV] * 4), "has 3 stages, .* got 4 in"),
        (f"{CONV} / / {CONV}", "from 1 to 3 cells, got 0 in stage 2"),
        (f"{CONV} / {CONV} / {' '.join([CONV] * 4)}", "from 1 to 3 cells, got 4 in stage 3"),
        (
            f"{CONV} / {CONV} / {CONV.replace('none', 'sep_conv', 1)}",
            "operation must be one of none, .* got 'sep_conv'",
        ),
        (f"{CONV} / {CONV} / |none~0|", r"a nasbench201_depth cell lists 6 edges as .*, got '\|none~0\|'"),
    ],
)
def test_bad_notation_is_one_sentence(notation, words):
    with pytest.raises(UserError, match=words) as error:
        SPACE.parse(notation)
    assert "\n" not in str(error.value)


def test_networks_outside_the_space_are_refused(sampled):
    cells = sampled[0].cells
    with pytest.raises(UserError, match=r"3 stages of 1 to 3 cells, got \[2\]"):
        SPACE.canonical(Architecture(cells, (0, 0)))
    last = len(cells) - 1
    with pytest.raises(UserError, match=r"got \[1, 0, 1\]"):
        SPACE.canonical(Architecture(cells, (0, last, last, 0)))
    pruned = SPACE.canonical(SPACE.parse(f"{DEAD} / {DEAD} / {DEAD}"), "pruned")
    with pytest.raises(UserError, match="without notation must be in raw form"):
        SPACE.mutate(Architecture(pruned.cells, pruned.sequence), np.random.default_rng(0))


def test_the_labelled_table_is_its_benchmark(tmp_path, monkeypatch, sampled):
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path))
    monkeypatch.setattr(labelled, "checkout", lambda: tmp_path / "elsewhere")
    for opened in ((), ("digits",)):
        with pytest.raises(MissingTable, match="no nasbench201_depth table of digits") as error:
            Benchmark("nasbench201_depth", *opened)
        assert str(error.value).count("hypernas label --space nasbench201_depth") == 1
    runs = np.linspace(50, 90, len(sampled))
    columns = {"notation": [a.notation for a in sampled], "parameters": runs, "validation_0": runs, "test_0": runs}
    path = tmp_path / "benchmarks" / "nasbench201_depth.parquet"
    labelled.write_labelled(path, columns, {"seeds": 1, "images": "digits", "epochs": 2})
    benchmark = Benchmark("nasbench201_depth")
    assert benchmark.dataset == "digits"
    graphs = benchmark.graphs("raw")
    assert [graphs.architecture(i).sequence for i in range(60)] == [a.sequence for a in sampled]
    assert (SPACE.graphs(benchmark.table, "pruned").function_ids() == benchmark.graphs("pruned").function_ids()).all()
    labelled.write_labelled(path, columns, {"seeds": 1, "images": "cifar10", "epochs": 2})
    assert Benchmark("nasbench201_depth").dataset == "cifar10"
    with pytest.raises(MissingTable, match="no nasbench201_depth table of digits"):
        Benchmark("nasbench201_depth", "digits")
