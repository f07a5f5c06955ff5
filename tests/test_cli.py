"""Claims about the command line: what it prints, where, with which exit code."""

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from doubles import ToyBenchmark, toy_world

from hypernas import Search
from hypernas.cli import main
from hypernas.cli.rows import pairs
from hypernas.errors import UserError
from hypernas.lab.formats import whole_numbers
from hypernas.view import style

EXPERIMENT = "experiment --space toy --dataset toyset --method linear --profile quick".split()


class Constant:
    n_parameters = 1

    def __init__(self, *, epochs=200, seed=0):
        pass

    def fit(self, graphs, accuracy):
        if len(accuracy) == 13:
            raise KeyboardInterrupt
        return self

    def predict(self, graphs):
        return graphs


class Dial(Constant):
    def __init__(self, *, epochs=200, q=1.5, seed=0):
        pass


@pytest.fixture
def hypernas(monkeypatch, tmp_path, capsys):
    """Call the command line in this process -> exit code, lines of stdout, lines of stderr."""

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words], prog_name="hypernas")
        out = capsys.readouterr()
        return stop.value.code, out.out.splitlines(), out.err.splitlines()

    with toy_world(monkeypatch, tmp_path / "results", ToyBenchmark, {"dial": Dial, "linear": Constant}):
        yield call


def python(code, *words, **options):
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = "torch pandas papermill IPython nbformat sklearn matplotlib"
    result = python(f"import sys, hypernas.cli; print(*set('{heavy}'.split()) & set(sys.modules))")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_without_papermill_only_run_is_missing_and_says_so(tmp_path):
    (tmp_path / "a.ipynb").write_text("{}")
    absent = "import sys; sys.modules.update(papermill=None, nbformat=None, IPython=None);"
    absent += "from hypernas.cli import main; main()"
    result = python(absent, "run", str(tmp_path / "a.ipynb"))
    assert result.returncode == 2
    assert result.stderr == "Error: running a notebook needs papermill: pip install 'hypernas[book]'\n"
    assert python(absent, "experiment", "--help").returncode == 0


def test_a_missing_extra_is_named(monkeypatch):
    # The widgets need theirs when they are imported, so in a new process.
    result = python("import sys; sys.modules['anywidget'] = None; import hypernas.view.widgets")
    assert "widgets need anywidget: pip install 'hypernas[book]'" in result.stderr.splitlines()[-1]
    for name in ("seaborn", "optuna"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="figures need matplotlib and seaborn: pip"):
        style.use_style()
    with pytest.raises(UserError, match="tpe needs Optuna: pip"):
        Search("nasbench201", method="tpe").ask()


def test_a_script_that_labels_on_two_processes_needs_no_guard(tmp_path):
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from hypernas.lab.labelling import Labelling, label\n"
        "from hypernas.lab.runner import Workers\n"
        "recipe = Labelling('nasbench201', n=10, epochs=1, seeds=1, channels=1, cells_per_stage=1)\n"
        f"label(recipe, Path({str(tmp_path)!r}) / 'table.parquet', workers=Workers(2), progress=False)\n"
    )
    result = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "table.parquet").exists()


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "hypernas", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: hypernas ")


def test_every_combination_is_one_json_row_a_line(hypernas):
    code, out, _ = hypernas(*EXPERIMENT, "--n-train", "5,7", "--seed", "0:3", "--json")
    rows = [json.loads(line) for line in out]
    assert code == 0
    assert [(row["n_train"], row["seed"]) for row in rows] == [(n, s) for n in (5, 7) for s in range(3)]
    again = [json.loads(line) for line in hypernas(*EXPERIMENT, "--n-train", "5,7", "--seed", "0:3", "--json")[1]]
    assert {row.pop("state") for row in rows} == {"trained"}
    assert {row.pop("state") for row in again} == {"recorded"}
    assert again == rows


def test_in_words_a_row_is_one_line(hypernas):
    code, out, err = hypernas(*EXPERIMENT, "--n-train", 5)
    assert (code, len(out), err) == (0, 1, [])
    assert "kendall_tau 1.0000" in out[0]


def test_a_stop_keeps_the_rows_there_are(hypernas, tmp_path):
    code, out, err = hypernas(*EXPERIMENT, "--n-train", "5,13,7", "--json")
    assert (code, len(out)) == (130, 1)
    assert "Stopped" in err[-1]
    (line,) = (tmp_path / "results" / "few_shot.jsonl").read_text().splitlines()
    assert {**json.loads(line), "state": "trained"} == json.loads(out[0])


def test_a_setting_reaches_the_methods_that_have_it(hypernas):
    words = ["--n-train", 5, "--method", "linear,dial", "--q", 2, "--set", "epochs=3", "--json"]
    code, out, _ = hypernas(*EXPERIMENT, *words)
    assert code == 0
    assert [json.loads(line)["settings"] for line in out] == [
        {"graph_form": "contracted", "epochs": 3}, {"graph_form": "contracted", "q": 2.0, "epochs": 3},
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--set", "--setting"])
def test_a_setting_has_the_same_two_names_in_every_command_that_trains(hypernas, option):
    code, out, _ = hypernas(*EXPERIMENT, "--n-train", 5, option, "epochs=3", "--json")
    assert (code, json.loads(out[0])["settings"]["epochs"]) == (0, 3)
    words = "experiment --space toy --dataset toyset --methods linear --n-train 5 --seeds 0 --profile quick --json"
    code, out, _ = hypernas(*words.split(), option, "epochs=3")
    assert (code, json.loads(out[0])["state"]) == (0, "recorded")


@pytest.mark.parametrize(
    "words",
    [
        "--space nowhere --n-train 5",
        "--dataset nothing --n-train 5",
        "--method guess --n-train 5",
        "--table Few/Shot --n-train 5",
        "--profile huge --n-train 5",
        *[f"--n-train {n}" for n in (0, 1, -5, 31, 99999, "2.5", "many", "5:5")],
        *[f"--n-train 5 --method dial --q {q}" for q in (0, -1, "nan", "inf", "two")],
        "--n-train 5 --q 1.5",
        "--n-train 5 --seed -1",
        f"--n-train 5 --seed 0:{10**14}",
        "--n-train 5 --graph-form round",
        "--n-train 5 --epochs 0",
        "--n-train 5 --set epochs",
        "--n-train 5 --set epochs=2 --epochs 3",
        "--n-train 5 --threads 0",
        f"--n-train 5 --threads {2**64}",
        "--n-train 5 --device cuda:7",
        "--n-train 5 --device gpu",
        "--n-train 5 --nothing",
        "",
    ],
)
def test_bad_input_is_one_sentence_exit_code_2_and_no_file(hypernas, tmp_path, words):
    code, out, err = hypernas(*EXPERIMENT, *words.split())
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "label --space nasbench101 --out {deep}/table.parquet",
        "run {deep}/page.ipynb",
        "train --arch {deep}/cell.txt",
    ],
)
def test_a_path_of_two_thousand_folders_is_one_sentence(hypernas, tmp_path, words):
    code, out, err = hypernas(*words.format(deep=f"{tmp_path}/{2000 * 'a/'}").split())
    assert (code, out, len(err)) == (2, [], 1)
    assert "a path must have at most 500 folders, got 200" in err[0]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(hypernas, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    code, out, err = hypernas("label", "--space", "nasbench101", "--out", file / "table.parquet")
    assert (code, out, len(err)) == (2, [], 1)
    assert str(file) in err[0]
    assert file.read_text() == ""


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(hypernas, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = hypernas(*EXPERIMENT, "--n-train", 5)
    assert (code, out, len(err)) == (2, [], 1)
    assert f"{tmp_path / 'results' / 'few_shot.jsonl'} must be writable, got No space left on device" in err[0]
    assert [path.name for path in (tmp_path / "results").glob("*")] == ["few_shot.jsonl.lock", ".leases"]


def test_a_table_is_printed_in_three_formats(hypernas, monkeypatch):
    hypernas(*EXPERIMENT, "--n-train", "5", "--seed", "0:2")
    assert any("1.000 ± 0.000 (2)" in line for line in hypernas("table", "few_shot")[1])
    assert hypernas("table", "few_shot", "--format", "csv")[1][0].startswith("space,dataset,method,n_train,graph_form")
    table = json.loads("\n".join(hypernas("table", "few_shot", "--format", "json")[1]))
    assert [line["n_seeds"] for line in table if line["space"] == "toy"] == [2]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp950", "ascii"])
def test_a_table_is_printed_whatever_the_code_page(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as stop:
        main(["table", "few_shot"], prog_name="hypernas")
    stream.flush()
    assert stop.value.code == 0
    assert b" (5) " in stream.buffer.getvalue()


def test_a_minus_that_a_code_page_lacks_is_a_hyphen():
    code = "from hypernas.cli import main, click; main.add_command(click.command('say')(lambda: click.echo('−0.05')))"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = python(f"{code}; main()", "say", env=environment)
    assert (result.returncode, result.stdout) == (0, "-0.05\n")


def test_a_quoted_home_is_the_home(hypernas, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = hypernas("run", "~/absent.ipynb")
    assert (code, err) == (2, [f"Error: the notebook must be a file, {tmp_path}/absent.ipynb is not"])


def test_an_unknown_table_is_one_sentence(hypernas):
    code, out, err = hypernas("table", "slow_shot")
    assert (code, out, len(err)) == (2, [], 1)


@dataclass
class ToySource:
    name: str = "toy"
    what: str = "A toy table"
    url: str = "https://example.org/toy.npz"
    licence: str = "MIT"
    size: int = 2_500_000
    sha256: str = "ab12"
    note: str = ""


def test_data_list_shows_what_is_known_of_every_source(hypernas, monkeypatch):
    from hypernas.data import catalogue

    monkeypatch.setattr(catalogue, "sources", lambda: (ToySource(), ToySource("other", sha256="", size=0)))
    monkeypatch.setattr(catalogue, "status", lambda source: "absent")
    code, out, _ = hypernas("data", "list")
    assert code == 0
    for fact in (
        "toy: A toy table",
        "absent",
        "https://example.org/toy.npz",
        "MIT",
        "2.5 MB",
        "ab12",
        "not known",
    ):
        assert any(fact in line for line in out), fact
    assert [json.loads(line)["name"] for line in hypernas("data", "list", "--json")[1]] == ["toy", "other"]


@pytest.mark.parametrize(("text", "numbers"), [("3", [3]), ("1,4", [1, 4]), ("0:3", [0, 1, 2]), ("9,0:2,9", [9, 0, 1])])
def test_numbers_are_lists_and_ranges(text, numbers):
    assert whole_numbers("seed", text) == numbers


def test_settings_are_pairs():
    assert pairs(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(UserError, match="key=value"):
        pairs(["a=1", "a=2"])


RUNNER = {"--workers", "--threads", "--scheduler", "--resources", "--retries"}
RECORDING = {"--results", "--record"}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("experiment", RUNNER | RECORDING | {"--seed", "--method"}),
        ("grid", RUNNER | RECORDING),
        ("search", RUNNER | RECORDING | {"--seed", "--method"}),
        ("zero-cost", RUNNER | RECORDING | {"--seed", "--method"}),
        ("label", RUNNER | {"--seed"}),
        ("train", RECORDING | {"--seed", "--threads"}),
        ("fit", {"--seed", "--method", "--threads"}),
    ],
)
def test_what_several_commands_have_is_spelled_alike_in_all(command, wanted):
    options = {option for parameter in main.commands[command].params for option in parameter.opts}
    assert wanted <= options
    first = {
        parameter.opts[0] for parameter in main.commands[command].params if not getattr(parameter, "hidden", False)
    }
    assert wanted <= first
