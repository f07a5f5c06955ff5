"""Claims about spaces from a dictionary of choices."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell, collate
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.metrics import kendall_tau, student_interval
from hypernas.spaces.choice import ChoiceSpace
from hypernas.spaces.programs import ProgramWriter

CHOICES = {
    "resolution": [128, 160],
    "a.kernel": [3, 5],
    "a.depth": [1, 2],
    "b.1.op": ["conv", "pool"],
    "b.2.op": ["conv", "pool"],
    "b.depth": [1, 2],
    "b.gate": [True, False],
}
VALUES = {"resolution": 160, "a.kernel": 5, "a.depth": 2, "b.1.op": "pool", "b.depth": 1, "b.gate": False}
TWIN = Path(__file__).with_name("macro_choices.py")
RESULTS = Path(__file__).parents[1] / "data" / "results"


@pytest.fixture
def space():
    return ChoiceSpace(CHOICES)


def test_stages_are_cells_in_order_and_choices_are_their_operations(space):
    architecture = space.parse(VALUES)
    named = [[space.ops[op] for op in cell.ops] for cell in architecture.cells]
    assert named == [
        ["resolution", "resolution=160", "output"],
        ["a", "kernel=5", "output"],
        ["b", "op=pool", "gate=False", "output"],
    ]
    assert architecture.sequence == (0, 1, 1, 2)


def test_depth_says_how_often_a_cell_stands_or_how_many_layers_there_are(space):
    deeper = space.parse(VALUES | {"a.depth": 1, "b.depth": 2, "b.2.op": "conv"})
    assert deeper.sequence == (0, 1, 2, 3)
    assert [space.ops[cell.ops[1]] for cell in deeper.cells[2:]] == ["op=pool", "op=conv"]


def test_a_layer_beyond_the_depth_does_not_matter(space):
    assert space.parse(VALUES | {"b.2.op": "conv"}) == space.parse(VALUES)
    assert "b.2.op" not in json.loads(space.parse(VALUES).notation)


def test_text_and_dictionaries_are_read_and_words_from_a_file_too(space):
    written = {key: str(value) for key, value in VALUES.items()}
    assert space.parse(VALUES) == space.parse(written) == space.parse(json.dumps(VALUES))


def test_an_architecture_is_known_by_its_graph_alone(space, rng):
    for _ in range(50):
        architecture = space.sample(rng)
        bare = collate([architecture], space).architecture(0)
        assert space.canonical(bare) == architecture
        child = space.mutate(architecture, rng)
        assert child != architecture
        assert space.parse(child.notation) == child


def test_a_layout_orders_the_stages_and_may_repeat_one():
    space = ChoiceSpace({"a.op": [1, 2], "b.op": [1, 2]}, layout=["b", "a", "b"])
    architecture = space.parse({"a.op": 1, "b.op": 2})
    assert architecture.sequence == (1, 0, 1)
    assert space.canonical(collate([architecture], space).architecture(0)) == architecture


@pytest.mark.parametrize(
    ("notation", "told"),
    [
        (VALUES | {"a.kernel": 7}, r"operation must be one of 3, 5, got 7 for a\.kernel"),
        (VALUES | {"a.kernel": True}, r"operation must be one of 3, 5, got True for a\.kernel"),
        (VALUES | {"c": 1}, r"a choice must be one of resolution, .*, got 'c'"),
        ({"resolution": 160}, r"every choice must have a value, got none for a\."),
        ("k3e4", r"is written as a JSON object"),
        ("[1, 2]", r"is written as a JSON object"),
        (5, r"must be written as text, got 5 \(int\)"),
        ({1: 2}, r"a choice must be one of .*, got 1"),
    ],
)
def test_another_notation_is_one_sentence(space, notation, told):
    with pytest.raises(UserError, match=told):
        space.parse(notation)


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({}, "at least one name"),
        ([1], "must be a dictionary of lists by name, got list"),
        ({"a": []}, "a must list its values"),
        ({"a": 3}, "a must list its values"),
        ({"a": [3, 3]}, "a must list different numbers or words"),
        ({"a": [[1], [2]]}, "a must list different numbers or words"),
        ({5: [1]}, "must have a name such as stage1.kernel, got 5"),
        ({"a..b": [1]}, "must have a name such as"),
        ({"a.depth": [0, 1]}, r"a\.depth must be whole numbers from 1 up"),
        ({"a.1.k": [1], "a.depth": [1, 2]}, "layers of a must be numbered from 1 to the greatest depth 2, got 1"),
    ],
)
def test_choices_that_make_no_space_are_refused(choices, told):
    with pytest.raises(UserError, match=told):
        ChoiceSpace(choices)
    with pytest.raises(UserError, match="layout must hold every stage"):
        ChoiceSpace({"a.k": [1]}, layout=["b"])
    with pytest.raises(UserError, match=r"layout must hold every stage .*, as a list, got 3"):
        ChoiceSpace({"a.k": [1]}, layout=3)


def test_a_file_of_choices_is_a_space_named_as_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(spaces.REGISTRY, "objects", {})
    (tmp_path / "plain.json").write_text(json.dumps(CHOICES))
    assert spaces.get(tmp_path / "plain.json").choices["a.kernel"] == (3, 5)
    assert spaces.get("plain").name == "plain"
    (tmp_path / "ordered.yaml").write_text("choices:\n  a.k: [3, 5]\n  b.k: [3, 5]\nlayout: [b, a]\n")
    assert spaces.get(str(tmp_path / "ordered.yaml")).layout == ("b", "a")
    (tmp_path / "torn.yaml").write_text("choices: {a: [")
    with pytest.raises(UserError, match="must be whole YAML") as caught:
        spaces.get(tmp_path / "torn.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="must be a readable text file"):
        spaces.get(tmp_path / "none.json")


def test_a_configuration_space_of_another_package_is_read():
    module = ModuleType("ConfigSpace.fake")
    exec(
        "class Categorical:\n def __init__(self, choices): self.choices = choices\n"
        "class Integer:\n lower, upper = 1, 2\n"
        "class Float:\n lower, upper = 0.5, 1.5\n"
        "class Space(dict): pass\n",
        module.__dict__,
    )
    sys.modules.setdefault("ConfigSpace.fake", module)
    space = ChoiceSpace(module.Space({"a.k": module.Categorical((3, 5)), "a.depth": module.Integer()}))
    assert space.choices == {"a.k": (3, 5), "a.depth": (1, 2)}
    with pytest.raises(UserError, match="rate must be a choice among some values, got a Float"):
        ChoiceSpace(module.Space({"rate": module.Float()}))


def test_a_predictor_takes_a_dictionary_as_it_takes_its_text(space, rng):
    architectures = [space.sample(rng) for _ in range(8)]
    fitted = predictors.get("ridge")().fit(collate(architectures, space), range(8))
    values = space.assignment(architectures[3])
    assert torch.equal(fitted.predict(values), fitted.predict([architectures[3].notation, values])[1:])
    with pytest.raises(UserError, match=r"a choice must be one of .*got .a\.colour"):
        fitted.predict({"a.colour": "red"})


def test_without_build_and_count_only_what_needs_them_is_refused(space):
    architecture = space.parse(VALUES)
    assert not space.provides("build")
    for ask in (space.build, space.network, space.count):
        with pytest.raises(UserError, match="runs no networks for choices, which builds none"):
            ask(architecture)
    counted = ChoiceSpace(CHOICES, count=lambda values: (values["a.kernel"], 10))
    assert counted.provides("count")
    assert counted.count(architecture) == (5, 10)


def test_with_build_the_network_is_an_ordinary_module_that_learns():
    """One convolution for each cell of the sequence, as wide as the stem."""

    def build(values, channels, cells_per_stage, stem_stride):
        writer = ProgramWriter(channels, stem_stride)
        value = writer.stem()
        for position in range(values["a.depth"]):
            writer.position = position
            value = writer.conv((value,), channels, channels, values["a.kernel"], 1, (position, 1))
        return writer.finish(value, heads=((5, channels, channels),))

    built = ChoiceSpace({"a.kernel": [3, 5], "a.depth": [1, 2]}, name="built", build=build)
    assert built.provides("network")
    network = built.network(built.parse({"a.kernel": 5, "a.depth": 2}), n_classes=3, c_image=1, channels=4)
    assert isinstance(network, torch.nn.Module)
    logits = network(torch.randn(6, 1, 8, 8))
    assert logits.shape == (6, 3)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    small, large = (built.count(built.parse({"a.kernel": kernel, "a.depth": 2})) for kernel in (3, 5))
    assert small < large


def test_an_architecture_of_other_nodes_is_refused(space):
    foreign = Architecture((Cell((0, 40, 1), ((0, 1, 0), (0, 0, 1), (0, 0, 0))),), (0,))
    with pytest.raises(UserError, match="must be chains of its choices"):
        space.canonical(foreign)


def test_macro_choices_are_the_graph_space_in_at_most_25_lines_and_rank_above_chance():
    assert len(TWIN.read_text().splitlines()) <= 25
    twin = spaces.get(TWIN)
    try:
        benchmark = Benchmark(twin)
    except UserError as missing:
        pytest.skip(str(missing))
    rows = torch.from_numpy(np.random.default_rng(100).permutation(6561)[:400])
    graphs, accuracy = benchmark.graphs()[rows], benchmark.validation[rows]
    predictor = predictors.get("hypernas-p")(seed=100, epochs=60).fit(graphs[:50], accuracy[:50])
    assert kendall_tau(predictor.predict(graphs[50:]), benchmark.test[rows[50:]]) > 0.6


def recorded(space, method, n_train):
    """Kendall taus of NAS-Bench-Macro by seed, the recorded ones: as `space`, with the settings of the method."""
    taus = {}
    for table in ("few_shot", "own_space"):
        for line in (RESULTS / f"{table}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if (row["space"], row["method"], row["n_train"]) == (space, method, n_train):
                own = {"context": "sum", "encoder": "gcn", "regressor_width": 0}
                if all(row["settings"].get(key, value) == value for key, value in own.items()):
                    taus[row["seed"]] = row["kendall_tau"]
    assert sorted(taus) == [*range(10)]
    return np.array([taus[seed] for seed in range(10)])


@pytest.mark.parametrize("n_train", [50, 100])
def test_choices_rank_as_well_as_the_graph_and_better_than_ridge_as_the_page_says(n_train):
    graph = recorded("nasbenchmacro", "hypernas-p", n_train)
    choices = recorded("tests/macro_choices.py", "hypernas-p", n_train)
    ridge = recorded("tests/macro_choices.py", "ridge", n_train)
    low, high = student_interval(choices - graph)
    assert -0.02 < low < high < 0.02
    assert student_interval(choices - ridge)[0] > 0
    page = " ".join((RESULTS.parents[1] / "book" / "own_space.md").read_text(encoding="utf-8").split())
    difference = f"{(choices - graph).mean():.3f}, {low:.3f} to {high:+.3f}".replace("-", "−")
    for number in (f"{choices.mean():.3f} instead of {graph.mean():.3f}", difference, f"{ridge.mean():.3f}"):
        assert number in page
