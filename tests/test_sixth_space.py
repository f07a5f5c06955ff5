"""A search space of one file, in a folder of its own, keeps every contract, with no edit anywhere else."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hypernas import cli, predictors, spaces
from hypernas.data import Table
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab import labelling, space_check
from hypernas.lab.benchmark import Benchmark
from hypernas.lab.runner import Workers
from hypernas.spaces.choice import ChoiceSpace

FILE = '''
"""A chain of four MobileNet blocks; of each the kernel and the expansion are chosen."""

import numpy as np

from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell
from hypernas.spaces.base import SearchSpace
from hypernas.spaces.mbconv import Block, block_keys, write_block, write_last
from hypernas.spaces.programs import ProgramWriter, count

BLOCKS = {f"k{kernel}e{expansion}": (kernel, expansion) for kernel in (3, 5, 7) for expansion in (2, 4)}
LENGTH = 4
CHAIN = tuple(tuple(int(j == i + 1 or (i, j) == (0, 4)) for j in range(5)) for i in range(5))


class MBConvChain(SearchSpace):
    name = "mbconv_chain"
    ops = ("input", "output", "project", "expand_2", "expand_4", "depthwise_3", "depthwise_5", "depthwise_7")
    macro = "stem, 4 inverted residual blocks of which the third halves the map, classifier"
    defaults = {"cells_per_stage": LENGTH}

    def architecture(self, names):
        wrong = next((name for name in names if name not in BLOCKS), None)
        if wrong is not None:
            raise UserError(f"operation must be one of {', '.join(BLOCKS)}, got {wrong!r}")
        if len(names) != LENGTH:
            raise UserError(f"an mbconv_chain architecture must list {LENGTH} blocks, got {len(names)}")
        ops = [(0, 3 + (2, 4).index(e), 5 + (3, 5, 7).index(k), 2, 1) for k, e in (BLOCKS[name] for name in names)]
        return Architecture(tuple(Cell(each, CHAIN) for each in ops), tuple(range(LENGTH)), "|".join(names))

    def parse(self, notation):
        return self.architecture(notation.split("|"))

    def names_of(self, architecture):
        known = {self.architecture([name] * LENGTH).cells[0]: name for name in BLOCKS}
        if any(cell not in known for cell in architecture.cells) or architecture.sequence != tuple(range(LENGTH)):
            raise UserError(f"an mbconv_chain architecture must be {LENGTH} blocks, got other nodes or edges")
        return [known[cell] for cell in architecture.cells]

    def canonical(self, architecture, graph_form="contracted"):
        return self.architecture(self.names_of(architecture))

    def sample(self, rng):
        return self.architecture([[*BLOCKS][i] for i in rng.integers(len(BLOCKS), size=LENGTH)])

    def mutate(self, architecture, rng):
        names, place = self.names_of(architecture), rng.integers(LENGTH)
        names[place] = rng.choice([name for name in BLOCKS if name != names[place]]).item()
        return self.architecture(names)

    def build(self, architecture, channels=16, cells_per_stage=LENGTH, stem_stride=1):
        writer = ProgramWriter(channels, stem_stride)
        x = writer.stem()
        for writer.position, name in enumerate(self.names_of(architecture)[:cells_per_stage]):
            kernel, expansion = BLOCKS[name]
            block = Block(kernel, expansion * channels, channels, 2 if writer.position == 2 else 1)
            x = write_block(writer, x, channels, block, list(block_keys(writer.position, 1, False)))
        return write_last(writer, x, (channels, 4 * channels), [(LENGTH - 1, 4)])

    def count(self, architecture):
        return count(self.build(architecture, channels=24), (3, 32, 32), 10)


space = MBConvChain()
'''


def records(recipe, notations):
    """Accuracies without any training, for the table."""
    runs = [[20.0 + 5 * notation.count("e4") + 10 * notation.count("k7")] for notation in notations]
    return [{"notation": n, "validation": r, "test": r, "parameters": 7} for n, r in zip(notations, runs, strict=True)]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spaces")
    (folder / "mbconv_chain.py").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERNAS_PLUGINS", str(folder))
        patch.setenv("HYPERNAS_DATA", str(folder))
        patch.setattr(labelling, "train_group", records)
        table = folder / "benchmarks" / "mbconv_chain.parquet"
        labelling.label(labelling.Labelling("mbconv_chain", n=70, seeds=1), table, workers=Workers(1), progress=False)
        yield spaces.get("mbconv_chain")


@pytest.mark.parametrize("promise", space_check.PROMISES)
def test_a_space_of_one_file_keeps_every_promise(space, promise):
    space_check.PROMISES[promise](space_check.subject_of(space))


def test_the_file_alone_registers_the_space_and_its_table_is_found(space):
    assert "mbconv_chain" in spaces.names()
    benchmark = Benchmark("mbconv_chain")
    assert (benchmark.dataset, len(benchmark)) == ("digits", 70)


def test_the_whole_method_takes_it(space, rng):
    graphs = collate([space.canonical(space.sample(rng)) for _ in range(6)], space)
    settings = {"epochs": 1, "n_layers": 1, "width": 8, "hyper_width": 8, "image_batch": 4, "channels": 4}
    predictor = predictors.get("hypernas")(**settings).fit(graphs, torch.arange(6.0))
    assert predictor.predict(graphs).isfinite().all()
    assert predictor.target_accuracies(graphs, 16).shape == (6,)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNAS_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_template_of_a_new_space_is_written_once_and_keeps_every_promise(folder):
    made = CliRunner().invoke(cli.main, ["new", "space", "my_space"])
    assert made.exit_code == 0
    checked = CliRunner().invoke(cli.main, ["check", "space", "my_space.py"])
    assert (checked.exit_code, checked.output.splitlines()[-1]) == (0, "all promises are kept")
    again = CliRunner().invoke(cli.main, ["new", "space", "my_space"])
    assert (again.exit_code, again.output.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", ["../x", "my space", "Mine", "5", ""])
def test_a_name_that_no_file_can_have_is_refused(name):
    with pytest.raises(UserError, match="must be named in small letters"):
        space_check.template(name)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('"|".join(choices)', '"-".join(choices)', "samples are inside the space"),
        ("size=LAYERS)]", "size=LAYERS - 1)]", "it can be sampled"),
        ("        layer = rng.integers(LAYERS)\n", "        return architecture\n", "a mutation must differ"),
        ("check_operation(choice, CHOICES)", "pass", "it raises ValueError"),
        ("macro = ", "macro = '' and ", "macro must describe the network in words"),
    ],
)
def test_a_broken_promise_is_told_in_a_sentence(folder, right, wrong, told):
    text = space_check.template("broken")
    assert right in text
    (folder / "broken.py").write_text(text.replace(right, wrong))
    checked = CliRunner().invoke(cli.main, ["check", "space", "broken.py"])
    assert checked.exit_code == 1
    assert told in checked.output
    assert "Traceback" not in checked.output


def test_spaces_of_choices_and_small_tables_keep_the_promises(monkeypatch):
    space = ChoiceSpace(
        {"a.op": ["conv", "pool"], "a.depth": [1, 2, 3], "b.1.k": [3, 5], "b.2.k": [3, 5], "b.depth": [1, 2]}
    )
    rows = [space.sample(seed).notation for seed in range(5)]
    accuracy = np.arange(5.0)
    table = Table("five labels", "measured", {"notation": np.array(rows)}, accuracy, accuracy)
    monkeypatch.setattr(space, "table", lambda dataset: table)
    assert [finding for finding in space_check.findings(space) if finding.broken] == []
