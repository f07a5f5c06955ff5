"""Claims about running notebooks, and every notebook of the repository in the quick profile."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from forked import ForkedKernel

from hypernas.cli import main
from hypernas.errors import UserError
from hypernas.lab import notebook_grid, notebooks, pages
from hypernas.lab.notebooks import check_parameters

nbformat = pytest.importorskip("nbformat")
papermill = pytest.importorskip("papermill")

ROOT = Path(__file__).parents[1]
PARAMETERS = """profile: str = "quick"  # quick | standard | paper
dataset = "cifar10"
n_train: int = 78  # 2..781, training architectures
q = 1.5
fails = False
sizes = [39, 78]
comment = None
"""
BODY = "print(profile, n_train, q, sizes, comment)\nassert not fails, 'as asked'"


@pytest.fixture
def notebook(tmp_path):
    """A small notebook with a parameters cell and one more cell."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


@pytest.fixture
def forked_kernels(monkeypatch):
    monkeypatch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", ForkedKernel)


def executes(test):
    """Mark a test that executes notebooks in this process, where Jupyter's warnings are not ours."""
    for mark in (pytest.mark.notebook, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("forked_kernels")):
        test = mark(test)
    return test


def hypernas_run(*words):
    return CliRunner().invoke(main, ["run", *map(str, words)])


def printed(path):
    cells = json.loads(path.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_parameters_get_the_types_of_the_cell(notebook):
    given = {
        "n_train": "156",
        "q": "2",
        "fails": "true",
        "sizes": "[10]",
        "comment": "7",
        "dataset": "cifar100",
    }
    assert check_parameters(notebook, given) == {
        "n_train": 156, "q": 2.0, "fails": True, "sizes": [10], "comment": 7, "dataset": "cifar100",
    }  # fmt: skip


def test_a_parameter_that_stays_as_it_is_needs_no_cell(notebook):
    assert check_parameters(notebook, {"profile": "quick", "q": "1.5", "sizes": "[39, 78]"}) == {}
    assert check_parameters(notebook, {"profile": "paper", "q": "1.50"}) == {"profile": "paper"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("n_trian", "78", "a parameter of small.ipynb must be one of profile, dataset, n_train"),
        ("n_train", "many", "n_train must be a whole number"),
        ("n_train", "2.5", "n_train must be a whole number"),
        ("n_train", "0", "n_train must be at least 2"),
        ("n_train", "1", "n_train must be at least 2"),
        ("n_train", "782", "n_train must be from 2 to 781"),
        ("q", "0", "q must be a finite number above 0"),
        ("q", "-1.5", "q must be a finite number above 0"),
        ("q", "nan", "q must be a finite number above 0"),
        ("q", "high", "q must be a number"),
        ("profile", "huge", "profile must be one of quick, standard, paper"),
        ("fails", "perhaps", "fails must be true or false"),
        ("sizes", "39", "sizes must be a list"),
    ],
)
def test_a_wrong_parameter_is_one_sentence_and_exit_code_2(notebook, tmp_path, name, value, words):
    with pytest.raises(UserError, match=words):
        check_parameters(notebook, {name: value})
    with pytest.raises(UserError, match=words):
        notebooks.run(notebook, {name: value}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [notebook]


def test_a_choice_in_a_comment_is_kept(notebook):
    text = notebook.read_text().replace('dataset = \\"cifar10\\"', 'dataset = \\"cifar10\\"  # cifar10 | cifar100')
    notebook.write_text(text)
    assert check_parameters(notebook, {"dataset": "cifar100"}) == {"dataset": "cifar100"}
    with pytest.raises(UserError, match="dataset must be one of cifar10, cifar100, got mnist"):
        check_parameters(notebook, {"dataset": "mnist"})


def test_what_is_no_notebook_is_a_user_error(tmp_path):
    (tmp_path / "text.ipynb").write_text("hello")
    for name in ("text.ipynb", "absent.ipynb"):
        with pytest.raises(UserError, match=f"the notebook must be a .*{name}"):
            check_parameters(tmp_path / name, {})


def test_an_executed_notebook_never_replaces_its_source(notebook, tmp_path):
    before = notebook.read_bytes()
    with pytest.raises(UserError, match="must not replace"):
        notebooks.run(notebook, {}, tmp_path)
    assert notebook.read_bytes() == before


def test_a_folder_that_is_a_file_is_one_sentence(notebook, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", str(notebook), "-o", str(notebook)], prog_name="hypernas")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"Error: a file or folder must be one that can be used, got {notebook} ")


@executes
def test_a_notebook_runs_with_its_parameters_and_leaves_one_file(notebook, tmp_path):
    out = tmp_path / "out"
    result = hypernas_run(notebook, "-p", "n_train", 156, "-p", "q", 2, "--profile", "standard", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out / "small.ipynb")
    assert printed(out / "small.ipynb") == "standard 156 2.0 [39, 78] None\n"
    assert [path.name for path in out.iterdir()] == ["small.ipynb"]


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".hidden", "", "x" * 300, "a\\b"])
def test_a_name_that_is_a_path_is_refused_as_a_name(notebook, tmp_path, name):
    with pytest.raises(UserError, match="the name of an executed notebook must be a file name of at most 200 bytes"):
        notebooks.run(notebook, {}, tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == [notebook]


def executed(folder, parameters):
    """What papermill leaves, without running anything."""
    folder.mkdir(exist_ok=True)
    node = nbformat.v4.new_notebook(metadata={"papermill": {"parameters": parameters}})
    nbformat.write(node, folder / "small.ipynb")
    return (folder / "small.ipynb").read_bytes()


def test_a_run_with_other_parameters_replaces_nothing_unless_forced(notebook, tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = executed(out, {"n_train": 156})
    with pytest.raises(UserError, match=r"small\.ipynb was executed with n_train 156: choose --name or -o, or replace"):
        notebooks.run(notebook, {"q": "2"}, out)
    done = CliRunner().invoke(main, ["run", str(notebook), "-p", "n_train", "157", "-o", str(out)])
    assert done.exit_code == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"Error: {out / 'small.ipynb'} was executed with")
    assert (out / "small.ipynb").read_bytes() == before
    calls = []

    def execute(source, target, values, **options):
        calls.append((values, options["kernel_name"]))
        shutil.copy(source, target)

    monkeypatch.setattr(notebooks, "_papermill", lambda: SimpleNamespace(
        execute_notebook=execute, inspect_notebook=papermill.inspect_notebook
    ))  # fmt: skip
    notebooks.run(notebook, {"n_train": "156"}, out)
    executed(out, {"n_train": 156})
    notebooks.run(notebook, {"q": "2"}, out, force=True)
    assert calls == [({"n_train": 156}, "python3"), ({"q": 2.0}, "python3")]
    (out / "small.ipynb").write_text("mine")
    with pytest.raises(UserError, match="an executed notebook must replace another one"):
        notebooks.run(notebook, {}, out)


def test_a_notebook_on_a_full_disk_claims_to_keep_nothing(notebook, tmp_path, monkeypatch):
    def execute(source, target, values, **options):
        Path(target).write_bytes(b"")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(notebooks, "_papermill", lambda: SimpleNamespace(
        execute_notebook=execute, inspect_notebook=papermill.inspect_notebook
    ))  # fmt: skip
    with pytest.raises(notebooks.NotebookFailed, match=r"No space left on device\); nothing that ran could be kept"):
        notebooks.run(notebook, {}, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_method_that_a_notebook_does_not_show_is_refused_before_anything_runs(tmp_path):
    words = ["run", str(ROOT / "notebooks" / "nasbench201.ipynb"), "-p", "method", "trees", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    sentence = "Error: method must be one of hypernas, hypernas-p, hypernas-h, np, got trees\n"
    assert (done.exit_code, done.stderr) == (2, sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.notebook
def test_an_interrupted_notebook_says_stopped_and_leaves_nothing(notebook, tmp_path):
    """Its kernel is ended in the middle of a cell, and says nothing of the sockets that it cannot reach any more."""
    began, out = tmp_path / "began", tmp_path / "out"
    wait = f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\nfor _ in range(600): time.sleep(0.1)"
    node = nbformat.read(notebook, as_version=4)
    node.cells.append(nbformat.v4.new_code_cell(wait))
    nbformat.write(node, notebook)
    command = [sys.executable, "-m", "hypernas", "run", str(notebook), "-o", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not began.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed) == (130, "")
    lines = [line for line in said.splitlines() if line and not line.startswith("Executing:")]
    stopped = "Stopped; recorded rows are kept, the same command goes on from there."
    assert lines == ["1 notebook to run in a kernel of this machine", stopped]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(("end", "told"), [(None, "words"), (ValueError, "words"), (KeyboardInterrupt, "")])
def test_what_a_kernel_says_outside_its_cells_is_passed_on_unless_it_was_interrupted(monkeypatch, capfd, end, told):
    monkeypatch.setattr(notebooks, "_kernel_manager", lambda errors: errors)

    def use():
        with notebooks._kernel_manager_class() as errors:
            errors.write(b"[IPKernelApp] WARNING | Kernel is running over TCP without encryption. All\nwords")
            if end:
                raise end

    with pytest.raises(end) if end else nullcontext():
        use()
    assert capfd.readouterr().err == told


@executes
def test_a_notebook_without_a_kernel_runs(tmp_path):
    cells = [nbformat.v4.new_code_cell("n = 1  # 1..3", metadata={"tags": ["parameters"]})]
    path = tmp_path / "bare.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell("print(n)")]), path)
    result = hypernas_run(path, "-p", "n", 2, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert printed(tmp_path / "out" / "bare.ipynb") == "2\n"


@executes
def test_a_failed_notebook_is_kept_and_named_and_a_good_run_clears_it(notebook, tmp_path):
    out = tmp_path / "out"
    result = hypernas_run(notebook, "-p", "fails", "true", "-o", out)
    assert result.exit_code == 1
    assert f"AssertionError: as asked); what ran is kept as {out / 'small.failed.ipynb'}" in result.stderr
    assert "Traceback" not in result.stderr
    assert printed(out / "small.failed.ipynb").startswith("quick 78 1.5")
    assert [path.name for path in out.iterdir()] == ["small.failed.ipynb"]
    result = hypernas_run(notebook, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in out.iterdir()] == ["small.ipynb"]


def test_one_notebook_under_two_names_shares_no_cell_id(notebook, tmp_path):
    ids = []
    for name in ("one", "two"):
        text = notebooks._executed(shutil.copy(notebook, tmp_path / f"{name}.ipynb"), notebook)
        ids += [cell["id"] for cell in json.loads(text)["cells"]]
    assert len(set(ids)) == len(ids) == 4


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_is_short_defines_nothing_and_is_stripped(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 60
    assert not [line for line in lines if line.split()[0] in ("def", "class", "async")]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert ["parameters" in cell.metadata.get("tags", []) for cell in code].count(True) == 1


@pytest.mark.parametrize("name", tomllib.loads((ROOT / "hypernas" / "lab" / "grids.toml").read_text(encoding="utf-8")))
def test_every_grid_is_recorded_shown_and_judged_by_the_notebook_of_its_name(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert f'Page("{name}", profile, device)' in code
    shown = [
        cell.source for cell in cells if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    assert shown[0].endswith("page.verdict()"), "the verdict is the first thing that a reader sees"
    assert {"page.claims()", "page.details()"} <= set(shown)


@pytest.mark.parametrize("name", pages.wording()["pages"])
def test_a_result_page_is_titled_by_an_answer_that_its_rows_still_give(name):
    words = pages.wording()["pages"][name]
    title = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source.splitlines()[0]
    assert title == f"# {words['title']}"
    answer = pages.Page(name).answer(words["claim"]).iloc[0]["answer"]
    assert answer in words["badges"], f"rows now say {answer}: change title and meaning of {name} in verdicts.toml"


# The pages whose lesson is their code show it; every other page folds it.
LESSONS = ("global_encoding", "hypernetwork", "multi_task_loss", "sixty_lines", "your_own_space")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_code_is_folded_unless_it_is_the_lesson(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    folded = {"hide-input", "hide-cell", "remove-cell", "remove-input"}
    open_cells = [cell.source for cell in cells if not folded & {*cell.metadata.get("tags", ())}]
    assert not open_cells or path.stem in LESSONS


@pytest.fixture(scope="module")
def book():
    return notebook_grid.read(ROOT / "book" / "grid.yml")


@executes
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_every_notebook_runs_in_the_quick_profile(book, name, monkeypatch):
    """One execution serves tests and book: what `make book` has executed is not run again, nor the other way."""
    monkeypatch.delenv("HYPERNAS_LAYERED")
    (execution,) = (one for one in book.executions if one.name == name)
    (told,) = notebook_grid.carry_out(replace(book, executions=[execution], missing=[execution]))
    assert told.state in (notebook_grid.EXECUTED, notebook_grid.UNCHANGED), told.reason
    assert execution.is_done()
