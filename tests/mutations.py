"""Thousands of wrong inputs from a fixed seed: options, names, paths, notations, tables, saved files, parameters.

`python tests/mutations.py [share] [family ...]` runs them and prints a table: tried, answered well, missed. An input is
answered well by a result, or by one sentence (UserError, exit code 2 or 1); a traceback, a hang and a changed file are
misses.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from click.testing import CliRunner

import hypernas
from hypernas import spaces
from hypernas.cli import main
from hypernas.errors import UserError

SEED = 20261129
SECONDS = 20  # of this process's computing time that an answer to a wrong input may take: no load counts as a hang
WALL_SECONDS = 300  # and of the clock, for an answer that waits instead of computing

TEXTS = (
    "", " ", "-1", "0", "1", "2", "3.5", "nan", "inf", "-inf", "1e400", "1e23", "0:1e14", "0x10", "1_000", "--", "-h",
    "None", "null", "true", "[]", "{}", "[1, 2", "1,2,", ",", "3:1", "0:3:2", "ä", "日本", "\u202e", "a b", "a\nb",
    "'", '"', "`id`", "$(id)", "%s", "{0}", "../../x", "/", "/dev/null", ".", "~", "~/x", "C:\\x", "con", "*", "?",
    "x" * 300, "1" * 400, "9" * 19, str(2**64), "-0", "+5", "5.", ".5", "1e-300", "1,", "NaN",
    "<img src=x onerror=alert(1)>",
    "</script>", "nasbench201 ", "NASBENCH201", "nasbench", "hypernas-", "cpu0", "cuda:99", "gpu", "mps",
    "a/" * 2000 + "b",
)  # fmt: skip


CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
OTHER_CELL = CELL.replace("avg_pool_3x3", "none")


@dataclass
class Case:
    """One input: its family, a description that reproduces it, and the call."""

    family: str
    said: str
    call: Callable[[], Any]


def states_of_files() -> set[tuple[Path, int, int]]:
    """All files below this folder, with their sizes and the moments of their last changes."""
    files = [path for path in Path().rglob("*") if path.is_file()]
    return {(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def command(family: str, words: list[str]) -> Case:
    """A case of the command line, run in this process."""

    def call() -> None:
        before = states_of_files()
        result = CliRunner().invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if result.exit_code not in (0, 1, 2):
            raise AssertionError(f"exit code {result.exit_code}")
        message = result.stderr.strip() if result.exit_code else ""
        if result.exit_code and ("Traceback" in message or not message):
            raise AssertionError(f"no sentence: {message[-200:]!r}")
        changed = states_of_files() ^ before
        if result.exit_code == 2 and changed:
            raise AssertionError(f"refused, but changed {sorted({str(path) for path, *_ in changed})}")

    return Case(family, " ".join(words)[:300], call)


# What each command is run with where nothing is wrong; small enough to run in seconds where a mutation is harmless.
COMMANDS: dict[str, list[tuple[str, str]]] = {
    "experiment": [
        ("--space", "nasbench201_depth"), ("--method", "trees"), ("--n-train", "5"), ("--seed", "100"),
        ("--table", "few_shot"), ("--profile", "quick"), ("--protocol", "clean"), ("--graph-form", "raw"),
        ("--set", "n_test=20"), ("--threads", "1"), ("--device", "cpu"), ("--dataset", "digits"),
    ],
    "search": [
        ("--space", "nasbench201_depth"), ("--method", "random"), ("--queries", "5"), ("--seed", "100"),
        ("--oracle", "table"), ("--max-params", "1e9"), ("--profile", "quick"), ("--device", "cpu"), ("--threads", "1"),
    ],
    "zero-cost": [("--space", "nasbench201_depth"), ("--method", "params"), ("--n", "3"), ("--seed", "100")],
    "label": [("--space", "nasbench201"), ("--n", "2"), ("--epochs", "1"), ("--seed", "0"), ("--images", "nosuch"),
              ("--out", "table.parquet")],
    "train": [("--arch", "missing.txt"), ("--space", "darts"), ("--epochs", "1"), ("--channels", "4"), ("--seed", "0")],
    "table": [("", "few_shot"), ("--format", "csv")],
    "run": [("", "missing.ipynb"), ("-o", "out"), ("--name", "again")],
    "sample": [("--space", "nasbench201"), ("--n", "3"), ("--seed", "1"), ("-o", "sample.csv")],
    "fit": [("--space", "nasbench201"), ("--labels", "labels.csv"), ("--method", "trees"), ("-o", "fitted"),
            ("--seconds", "1"), ("--seed", "1"), ("--set", "n_trees=5"), ("--threads", "1"), ("--device", "cpu")],
    "predict": [("", "predictor"), ("", "labels.csv"), ("--space", "nasbench201"), ("-o", "answers.csv")],
    "rank": [("", "predictor"), ("--sample", "3"), ("--top", "2"), ("--seed", "1"), ("--device", "cpu")],
    "ask": [("", "new.jsonl"), ("--space", "nasbench201"), ("--method", "random"), ("--objective", "accuracy"),
            ("--constraint", "params<3e6"), ("--queries", "5"), ("--seed", "1"), ("--n", "1"), ("--worker", "a")],
    "tell": [("", "journal.jsonl"), ("", CELL), ("", "accuracy=90"), ("--worker", "a")],
    "tell --failed": [("", "it broke"), ("", "journal.jsonl"), ("", OTHER_CELL)],
    "trials": [("", "journal.jsonl")],
    "grid --dry-run": [("", "peers"), ("--only", "method=trees"), ("--only", "n_train=78"), ("--profile", "standard")],
    "new space": [("", "my_space"), ("--out", "my_space.py")],
    "check space": [("", "nosuch")],
    "data list": [],
    "data fetch": [("", "nosuch"), ("--from", "nosuch")],
    "data check": [("--space", "nosuch"), ("--dataset", "cifar10")],
}  # fmt: skip


def words_of(name: str, options: list[tuple[str, str]]) -> list[str]:
    """`experiment`, [("--space", "x")] -> ["experiment", "--space", "x"]; an option without a name is an argument."""
    words = name.split()
    for option, value in options:
        words += [option, value] if option else [value]
    return words


def prepare_files() -> None:
    """What commands read, in this folder: labels of one's own, a predictor of them, the journal of a search."""
    space, rng = spaces.get("nasbench201"), np.random.default_rng(0)
    notations = [space.sample(rng).notation for _ in range(12)]
    pd.DataFrame({"notation": notations, "accuracy": np.linspace(80, 90, 12)}).to_csv("labels.csv", index=False)
    batch = hypernas.graph.collate([space.canonical(space.parse(text)) for text in notations], space, "contracted")
    hypernas.save(hypernas.predictors.get("ridge")().fit(batch, torch.linspace(80, 90, 12)), "predictor")
    search = hypernas.Search("nasbench201", method="random", queries=5, journal="journal.jsonl")
    for architecture in search.ask(2):
        search.tell(architecture, accuracy=90)


def command_lines(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Each option in turn with a wrong value, twice, missing, or one that the command does not have."""
    prepare_files()
    kinds = [(name, i) for name, options in COMMANDS.items() for i in range(len(options) + 1)]
    for k in range(number):
        name, i = kinds[k % len(kinds)]
        options = list(COMMANDS[name])
        if i == len(options):
            options.append((rng.choice(["--nosuch", "--seed", "--set", "-x", ""]), rng.choice(TEXTS)))
        else:
            change = rng.random()
            option, value = options[i]
            if change < 0.8:
                options[i] = (option, rng.choice(TEXTS))
            elif change < 0.9:
                options.insert(i, (option, value))
            else:
                del options[i]
        yield command("command line", words_of(name, options))


def altered(rng: random.Random, text: str) -> str:
    """A text with one to three edits: a character lost, doubled, changed or moved, a piece cut out or repeated."""
    for _ in range(rng.randint(1, 3)):
        if not text:
            return rng.choice(TEXTS)
        i, j = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
        text = rng.choice(
            [
                text[:i] + text[i + 1 :],
                text[:i] + text[i] + text[i:],
                text[:i] + rng.choice("0123456789|+~(),'[]ekxhr_ äÄ\n\0") + text[i + 1 :],
                text[:i] + text[j:],
                text[:j] + text[i:j] + text[j:],
                text[j:] + text[:j],
                text.upper(),
                text[:i],
            ]
        )
    return text


def parsed(space: Any, text: Any) -> None:
    """A notation is refused in one sentence, or is an architecture whose own notation reads back as the same."""
    architecture = space.parse(text)
    again = space.parse(architecture.notation)
    assert (again.cells, again.sequence) == (architecture.cells, architecture.sequence), "reads back as another"


OBJECTS = (None, 5, -1, 2.5, b"x", [], {}, (), [[]], {"normal": []}, object(), float("nan"), np.int64(3), True)


def notations(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Altered notations of every space, and objects that are no text."""
    names = spaces.names()
    for k in range(number):
        space = spaces.get(names[k % len(names)])
        if rng.random() < 0.12:
            text = rng.choice(OBJECTS)
        else:
            text = altered(rng, space.sample(np.random.default_rng(k)).notation)
        yield Case("notations", f"{space.name}: {text!r:.200}", lambda space=space, text=text: parsed(space, text))


def interface(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Wrong arguments to the functions of the library."""
    benchmark = hypernas.Benchmark("nasbench201", "cifar10")
    graphs = benchmark.graphs("contracted")
    values = [
        *OBJECTS, *TEXTS, 1e300, -5, 10**30, np.float64(1.5), torch.tensor(3), torch.device("cpu"), "cpu", 0, 1, 7,
        np.array([1, 2]), [1, 2], range(3),
    ]  # fmt: skip
    labels = benchmark.validation[:12]

    def fitted(accuracy: Any) -> None:
        predicted = hypernas.predictors.get("trees")(seed=100).fit(graphs[:12], accuracy).predict(graphs[:5])
        assert torch.isfinite(torch.as_tensor(predicted)).all(), "a prediction that is none"

    def setting(method: str, name: str, value: Any) -> None:
        hypernas.predictors.get(method)(**{name: value})

    columns = [
        labels * 1e300, labels.numpy(), labels.tolist(), labels[:5], labels[:, None],
        pd.Series(labels.numpy(), index=range(3, 15)),
        pd.Series(labels.numpy()).astype(object), torch.full((12,), float("nan")), torch.zeros(12), ["a"] * 12,
        [None] * 12,
        labels.numpy().astype(str), np.array([b"x"] * 12), labels * 0 + float("inf"),
        pd.DataFrame({"a": labels.numpy()}), {}, "", None,
    ]  # fmt: skip
    settings = ["epochs", "learning_rate", "seed", "q", "n_layers", "width", "channels", "image_batch", "device",
                "images", "context", "reading", "accumulate", "loss", "nosuch"]  # fmt: skip
    for k in range(number):
        kind = k % 5
        a, b = rng.choice(values), rng.choice(values)
        if kind == 0:
            yield Case("interface", f"split({a!r:.80}, {b!r:.80})", lambda a=a, b=b: benchmark.split(a, b))
        elif kind == 1:
            method, name = rng.choice(["np", "hypernas", "hypernas-p", "trees", "pinat", "ghn"]), rng.choice(settings)
            said = f"{method}({name}={a!r:.80})"
            yield Case("interface", said, lambda method=method, name=name, a=a: setting(method, name, a))
        elif kind == 2:
            column = columns[(k // 5) % len(columns)]
            yield Case("interface", f"fit(graphs, {type(column).__name__} {k})", lambda column=column: fitted(column))
        elif kind == 3:
            place = rng.choice(["space", "method", "benchmark", "dataset"])
            ask = {
                "space": lambda a=a: spaces.get(a),
                "method": lambda a=a: hypernas.predictors.get(a),
                "benchmark": lambda a=a: hypernas.Benchmark(a),
                "dataset": lambda a=a: hypernas.Benchmark("nasbench201", a),
            }[place]
            yield Case("interface", f"{place} {a!r:.80}", ask)
        else:
            space = spaces.get(rng.choice(spaces.names()))
            ask = rng.choice(
                [
                    lambda space=space, a=a: space.sample(a),
                    lambda space=space, a=a: space.canonical(space.sample(np.random.default_rng(0)), a),
                    lambda a=a: benchmark.graphs(a),
                    lambda a=a: hypernas.graph.collate(a),
                ]
            )
            yield Case("interface", f"{space.name} {a!r:.80}", ask)


ROW = {
    "table": "few_shot", "space": "nasbench201", "dataset": "cifar10", "method": "np", "n_train": 78, "seed": 0,
    "profile": "standard", "protocol": "clean", "settings": {"graph_form": "raw", "epochs": 200}, "kendall_tau": 0.5,
    "kendall_tau_unseen": 0.4, "spearman_rho": 0.6, "seconds": 1.0, "source": "a table", "n_test": 9, "n_parameters": 3,
    "device": "x", "version": "0.1.0", "commit": "x", "started": "2026-01-01T00:00:00+00:00", "seeds_together": 1,
}  # fmt: skip


def results_files(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Files of rows with a field lost, of another type, cut off, or of other bytes; `hypernas table` reads them."""
    for k in range(number):
        row: dict[str, Any] = json.loads(json.dumps(ROW))
        field = rng.choice([*row, "settings"])
        change = rng.random()
        if change < 0.6:
            row[field] = rng.choice(
                [None, [], {}, "x", -1, 1e300, True, [1], {"a": {}}, "nan", "<img src=x onerror=a>"]
            )
        elif change < 0.8:
            del row[field]
        text = json.dumps(row)
        if change >= 0.8:
            text = altered(rng, text)
        path = folder / f"rows{k}" / "few_shot.jsonl"
        path.parent.mkdir()
        path.write_bytes((text + "\n").encode("utf-8", "surrogatepass"))
        form = rng.choice(["csv", "json", "markdown"])

        def call(path: Path = path, form: str = form) -> None:
            before = path.read_bytes()
            os.environ["HYPERNAS_RESULTS"] = str(path.parent)
            try:
                command("files", ["table", "few_shot", "--format", form]).call()
            finally:
                del os.environ["HYPERNAS_RESULTS"]
            assert path.read_bytes() == before, "the file was changed"

        yield Case("results files", f"{field}: {text[:200]}", call)


def saved_files(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """A saved predictor with bytes flipped, cut off or put in; loading says so, or loads what was saved."""
    space = spaces.get("nasbench201")
    draw = np.random.default_rng(0)
    batch = hypernas.graph.collate([space.canonical(space.sample(draw), "contracted") for _ in range(8)], space)
    predictor = hypernas.predictors.get("np")(epochs=1, n_layers=1, width=8).fit(batch, torch.linspace(80, 90, 8))
    path = folder / "predictor"
    hypernas.save(predictor, path)
    whole, right = path.read_bytes(), predictor.predict(batch)
    for k in range(number):
        content = bytearray(whole)
        i = rng.randrange(len(content))
        change = rng.choice(["flip", "cut", "insert", "other"])
        if change == "flip":
            content[i] ^= 1 << rng.randrange(8)
        elif change == "cut":
            del content[i:]
        elif change == "insert":
            content[i:i] = bytes(rng.randrange(256) for _ in range(8))
        else:
            content = bytearray(rng.choice([b"", b"\x80\x04.", b"{}", b"PK\x03\x04", b"null", os.urandom(50)]))
        damaged = folder / f"damaged{k}"
        damaged.write_bytes(bytes(content))

        def call(damaged: Path = damaged) -> None:
            again = hypernas.load(damaged).predict(batch)
            assert torch.equal(again, right), "loaded as another predictor"

        yield Case("saved files", f"{change} at {i}", call)


def tables(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Tables of a space that `hypernas label` could have made: a column lost or of another type, thin provenance."""
    import pyarrow
    import pyarrow.parquet

    from hypernas.data.labelled import KEY

    space, draw = spaces.get("nasbench201_depth"), np.random.default_rng(0)
    n, seeds = 12, 2
    good: dict[str, Any] = {"notation": [space.sample(draw).notation for _ in range(n)], "parameters": list(range(n))}
    for part in ("validation", "test"):
        good.update({f"{part}_{s}": draw.uniform(50, 90, n).tolist() for s in range(seeds)})
    made = {"space": space.name, "images": "digits", "epochs": 2, "seeds": seeds}
    for k in range(number):
        columns, provenance = dict(good), dict(made)
        name, change = rng.choice([*columns]), rng.random()
        if change < 0.5:
            columns[name] = rng.choice(
                [[None] * n, ["x"] * n, [b"x"] * n, [[1.0]] * n, [float("nan")] * n, [True] * n, [1e300] * n, [-5] * n]
            )
        elif change < 0.65:
            del columns[name]
        elif change < 0.75:
            rows = rng.choice([0, 1])
            columns = {key: value[:rows] for key, value in columns.items()}
        else:
            key = rng.choice([*provenance])
            provenance[key] = rng.choice([None, "x", -1, [], {}, 10**9, 1.5])
            if rng.random() < 0.4:
                del provenance[key]
        path = folder / f"tables{k}" / "benchmarks" / f"{space.name}.parquet"
        path.parent.mkdir(parents=True)
        table = pyarrow.table(columns).replace_schema_metadata({KEY: json.dumps(provenance).encode()})
        pyarrow.parquet.write_table(table, path)

        def call(path: Path = path) -> None:
            had = os.environ.get("HYPERNAS_DATA")
            os.environ["HYPERNAS_DATA"] = str(path.parents[1])
            try:
                benchmark = hypernas.Benchmark(space.name, "digits")
                train, test = benchmark.split(4, 0)
                assert len(train) == 4
                assert len(test) <= n
                benchmark.graphs("contracted")
            finally:
                del os.environ["HYPERNAS_DATA"]
                if had is not None:
                    os.environ["HYPERNAS_DATA"] = had

        yield Case("tables", f"{name}, {provenance} {k}", call)


def parameters(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Wrong parameters of a notebook, checked before anything runs."""
    import nbformat

    from hypernas.lab.notebooks import check_parameters

    source = (
        'space = "nasbench201"  # nasbench201 | darts\nn_train: int = 78  # 2..781\nq: float = 1.5\nsizes = [39, 78]\n'
        'quick = True\nmethod = "np"\nprofile = "quick"\nseed = 0'
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})])
    path = folder / "page.ipynb"
    nbformat.write(notebook, path)
    names = ["space", "n_train", "q", "sizes", "quick", "method", "profile", "seed", "nosuch", ""]
    for _ in range(number):
        name, value = rng.choice(names), rng.choice(TEXTS)
        said = f"{name}={value!r:.100}"
        yield Case("notebook parameters", said, lambda name=name, value=value: check_parameters(path, {name: value}))


def damaged(rng: random.Random, content: bytes) -> bytes:
    """A file with a bit flipped, cut off, a piece put in, or another one in its place."""
    i = rng.randrange(len(content))
    change = rng.choice(["flip", "cut", "insert", "other", "text"])
    if change == "flip":
        return content[:i] + bytes([content[i] ^ 1 << rng.randrange(8)]) + content[i + 1 :]
    if change == "cut":
        return content[:i]
    if change == "insert":
        return content[:i] + bytes(rng.randrange(256) for _ in range(8)) + content[i:]
    if change == "other":
        return rng.choice([b"", b"\x80\x04.", b"{}", b"PK\x03\x04", b"null", b"[]", b"1", b"PAR1", b"[" * 100_000])
    return altered(rng, content.decode(errors="replace")).encode("utf-8", "surrogatepass")


def read_files(rng: random.Random, number: int, folder: Path) -> Iterator[Case]:
    """Damaged files of all other kinds: labels of one's own, lists of architectures, journals, checkpoints, images."""
    from hypernas.data.own_images import read_own
    from hypernas.lab.full_training import read_architecture
    from hypernas.lab.journal import Journal
    from hypernas.lab.practice import read_architectures
    from hypernas.training.loop import Checkpoint, Schedule, train

    place = folder / "whole"
    place.mkdir()
    frame = pd.DataFrame({"notation": [CELL, OTHER_CELL], "accuracy": [90.0, 80.0]})
    frame.to_csv(place / "labels.csv", index=False)
    frame.to_parquet(place / "labels.parquet")
    frame.to_json(place / "labels.jsonl", orient="records", lines=True)
    (place / "cells.txt").write_text(f"{CELL}\n{CELL}\n", encoding="utf-8")
    (place / "found.json").write_text(json.dumps({"space": "nasbench201", "notation": CELL}), encoding="utf-8")
    np.savez(place / "images.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 2)
    search = hypernas.Search("nasbench201", method="random", queries=5, journal=place / "search.jsonl")
    for architecture in search.ask(2):
        search.tell(architecture, accuracy=90)
    Journal(place / "label.partial.jsonl", {"run": 1}, "choose another").add([[1, 2.0], [2, 3.0]])

    def resumed(path: Path) -> None:
        weight = torch.nn.Parameter(torch.zeros(1))

        def loss(index: Any, generators: Any) -> Any:
            return weight.sum(), {"loss": weight.detach()}

        train([weight], loss, 4, Schedule(epochs=1), [0], checkpoint=Checkpoint(path))

    def asked(path: Path) -> None:
        search = hypernas.Search("nasbench201", method="random", queries=5, journal=path)
        search.ask(1)

    resumed(place / "training.checkpoint")
    readers: dict[str, Callable[[Path], Any]] = {
        "labels.csv": lambda path: hypernas.Benchmark("nasbench201", path).graphs(),
        "labels.parquet": lambda path: hypernas.Benchmark("nasbench201", path).graphs(),
        "labels.jsonl": lambda path: hypernas.Benchmark("nasbench201", path).graphs(),
        "cells.txt": read_architectures,
        "found.json": lambda path: read_architecture(path, "darts"),
        "images.npz": lambda path: read_own(str(path)),
        "search.jsonl": asked,
        "label.partial.jsonl": lambda path: Journal(path, {"run": 1}, "choose another"),
        "training.checkpoint": resumed,
    }
    names = [*readers]
    for k in range(number):
        name = names[k % len(names)]
        path = folder / f"read{k}" / name
        path.parent.mkdir()
        path.write_bytes(damaged(rng, (place / name).read_bytes()))

        def call(path: Path = path) -> None:
            before = path.read_bytes()
            try:
                readers[path.name](path)
            except UserError:
                assert path.read_bytes() == before, "refused, but changed"
                raise

        yield Case("other files", f"{name} {k}: {path.read_bytes()[:120]!r}", call)


# A family's cases, and how many there are of them.
FAMILIES: dict[str, tuple[Callable[[random.Random, int, Path], Iterator[Case]], int]] = {
    "command line": (command_lines, 1200),
    "notations": (notations, 600),
    "interface": (interface, 500),
    "results files": (results_files, 200),
    "saved files": (saved_files, 200),
    "tables": (tables, 200),
    "other files": (read_files, 400),
    "notebook parameters": (parameters, 200),
}


class Hang(BaseException):
    """An answer that took longer than it may."""


def _expired(*_: Any) -> None:
    raise Hang


def missed(case: Case) -> str:
    """What is wrong with the answer to a case; empty where it is answered well."""
    signal.signal(signal.SIGPROF, _expired)
    signal.signal(signal.SIGALRM, _expired)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WALL_SECONDS)
    try:
        case.call()
    except UserError as error:
        message = str(error)
        return "" if message and "Traceback" not in message else "an empty sentence"
    except TypeError as error:
        # A keyword that does not exist is Python's own sentence.
        return "" if "unexpected keyword argument" in str(error) else f"TypeError: {error}"
    except Hang:
        return f"no answer in {SECONDS} s of computing or {WALL_SECONDS} s of the clock"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return ""


def run(share: float = 1.0, families: Iterable[str] = FAMILIES) -> tuple[Counter[str], list[tuple[Case, str]]]:
    """Run the first cases of each family in an empty folder, the same ones every time -> how many were tried, misses.

    Files of the user are those of the empty folder.
    """
    tried: Counter[str] = Counter()
    misses = []
    here, folder = Path.cwd(), Path(tempfile.mkdtemp())
    keep = {name: os.environ.get(name) for name in ("HYPERNAS_RESULTS", "XDG_CACHE_HOME", "HOME")}
    os.environ["XDG_CACHE_HOME"], os.environ["HOME"] = str(folder / "cache"), str(folder)
    # Deep enough that `../../x` stays in the folder.
    work = folder / "deep" / "down" / "work"
    work.mkdir(parents=True)
    os.chdir(work)
    threads = torch.get_num_threads()
    try:
        for family in families:
            generate, number = FAMILIES[family]
            for case in generate(random.Random(f"{SEED} {family}"), int(number * share), folder):
                os.environ.setdefault("HYPERNAS_RESULTS", str(folder / "rows"))
                if family == "results files":
                    os.environ.pop("HYPERNAS_RESULTS", None)
                tried[family] += 1
                if wrong := missed(case):
                    misses.append((case, wrong))
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)
        for name, value in keep.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
    return tried, misses


if __name__ == "__main__":
    chosen = sys.argv[2:] or FAMILIES
    count, wrong = run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, chosen)
    for one, reason in wrong:
        print(f"{one.family} | {one.said!r} | {reason[:300]!r}")
    families = Counter(one.family for one, _ in wrong)
    for family, number in count.items():
        print(f"{family}: {number} tried, {number - families[family]} answered well, {families[family]} missed")
    print(f"all: {sum(count.values())} tried, {len(wrong)} missed")
