"""Claims about grids of notebooks: what they list, under which names, and that each is run once whatever happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hypernas import cli
from hypernas.errors import UserError

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("papermill")

from hypernas.lab import notebook_grid, notebooks  # noqa: E402

ROOT = Path(__file__).parents[1]
PARAMETERS = """number = 0  # 0..99
q = 1.5
marks: str = ""
sizes = [1, 2]
"""
# Each notebook leaves a mark for every time that it runs; 5 kills its worker the first time, 77 fails.
BODY = """import os, time
with open(marks, "a") as file:
    file.write(f"{number}\\n")
if number == 5 and open(marks).read().split().count("5") == 1:
    os.kill(os.getppid(), 9)
    time.sleep(60)
assert number != 77, "no <b>luck</b>"
print("square", number * number)
"""


def notebook(folder, name):
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


@pytest.fixture
def folder(tmp_path):
    notebook(tmp_path, "small")
    return tmp_path


def grid_file(folder, runs, **more):
    """A grid is YAML, and JSON is YAML."""
    path = folder / "grid.yml"
    path.write_text(json.dumps({"output": "done", "runs": runs, **more}))
    return path


def names(grid):
    return [execution.name for execution in grid.executions]


def hypernas_grid(path, *words):
    """In a process of its own, from the folder of the tests: workers import the library by its path."""
    command = [sys.executable, "-m", "hypernas", "grid", str(path), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment, check=False)


def test_lists_and_ranges_are_combined_and_named_by_what_differs(folder):
    runs = [{"notebook": "small.ipynb", "parameters": {"number": "0:3", "q": ["1.5", "2"], "marks": "m"}}]
    grid = notebook_grid.read(grid_file(folder, runs))
    assert names(grid) == [f"small_number-{number}_q-{q}" for number in range(3) for q in (1.5, 2.0)]
    assert grid.executions[3].changed == {"number": 1, "q": 2.0, "marks": "m"}
    assert grid.folder == folder / "done"


def test_a_range_of_yaml_is_no_number_of_base_sixty(folder):
    path = folder / "grid.yml"
    path.write_text("runs:\n- notebook: small.ipynb\n  parameters: {number: 1:3}\n")
    assert [execution.values["number"] for execution in notebook_grid.read(path).executions] == [1, 2]


def test_a_pattern_names_many_and_common_parameters_reach_those_that_have_them(folder):
    notebook(folder, "another")
    path = grid_file(folder, [{"notebook": "*.ipynb"}], parameters={"number": "7"})
    grid = notebook_grid.read(path, given={"number": "8"})
    assert names(grid) == ["another", "small"]
    assert [execution.values["number"] for execution in grid.executions] == [8, 8]
    assert names(notebook_grid.read(path, only={"notebook": "small"})) == ["small"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("runs: 3", "runs must be a list"),
        ("runs: []", "must have a run"),
        ("jobs: []", "the keys output, parameters, runs, .* has 'jobs'"),
        ("{", "is none: "),
        ("- 1", "has 'list'"),
        ("runs: [{notebook: nosuch.ipynb}]", "the notebook must be a file"),
        ("runs: [{notebook: 'nosuch*.ipynb'}]", "no file matches"),
        ("runs: [{notebook: [1]}]", "must be a path or a pattern"),
        ("runs: [{notebook: small.ipynb, parameters: {nosuch: 1}}]", "must be one of number, q, marks, sizes"),
        ("runs: [{notebook: small.ipynb, parameters: {number: 0:1000000000}}]", "at most 100,000 numbers"),
        ("runs: [{notebook: small.ipynb, parameters: {number: 200}}]", "number must be from 0 to 99, got 200"),
        ("runs: [{notebook: small.ipynb, parameters: {q: high}}]", "q must be a number, got 'high'"),
        ("runs: [{notebook: small.ipynb, parameters: {sizes: [[1]]}}]", "a list is quoted"),
        ("runs: [{notebook: small.ipynb}, {notebook: small.ipynb}]", "must differ, two are called 'small'"),
        ("parameters: {nosuch: 1}\nruns: [{notebook: small.ipynb}]", "has none with 'nosuch'"),
    ],
)
def test_what_is_no_grid_is_one_sentence_before_anything_runs(folder, content, words):
    path = folder / "grid.yml"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        notebook_grid.read(path)


def test_a_file_that_no_grid_made_is_not_replaced(folder):
    path = grid_file(folder, [{"notebook": "small.ipynb"}])
    (folder / "done").mkdir()
    (folder / "done" / "small.ipynb").write_text("mine")
    with pytest.raises(UserError, match="must replace another one"):
        notebook_grid.read(path)
    assert len(notebook_grid.read(path, force=True).missing) == 1


def test_options_of_rows_are_refused_for_notebooks_and_those_of_notebooks_for_rows(folder):
    path = grid_file(folder, [{"notebook": "small.ipynb"}])
    for words in ([str(path), "--together", "3"], ["preference", "-o", str(folder)]):
        refused = CliRunner().invoke(cli.main, ["grid", *words])
        assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert not (folder / "done").exists()


def test_a_changed_source_or_parameter_is_executed_again_and_nothing_else(folder, monkeypatch):
    runs = [{"notebook": "small.ipynb", "parameters": {"number": "1,2", "marks": str(folder / "marks")}}]
    path = grid_file(folder, runs)
    monkeypatch.setattr(notebook_grid, "execute", lambda job: job.source)
    monkeypatch.setattr(notebook_grid, "library_digest", lambda: "one")
    assert [one.state for one in notebook_grid.carry_out(notebook_grid.read(path))] == ["executed"] * 2
    again = notebook_grid.read(path)
    assert again.missing == []
    assert again.cost(notebook_grid.Workers(2)) == "2 of 2 notebooks are executed already and would not change"
    path.write_text(path.read_text().replace("1,2", "2,3"))
    assert [execution.values["number"] for execution in notebook_grid.read(path).missing] == [3]
    notebook_path = folder / "small.ipynb"
    notebook_path.write_text(notebook_path.read_text().replace("square", "squared"))
    assert len(notebook_grid.read(path).missing) == 2
    monkeypatch.setattr(notebook_grid, "library_digest", lambda: "two")
    assert len(notebook_grid.read(path).missing) == 2


def test_what_a_killed_process_left_of_a_notebook_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "gettempdir", lambda: str(tmp_path))
    for number in (999999999, os.getpid()):
        (tmp_path / f"{notebooks.SCRATCH}{number}-x").mkdir()
    notebooks._remove_scratch_of_the_dead()
    assert [folder.name for folder in tmp_path.iterdir()] == [f"{notebooks.SCRATCH}{os.getpid()}-x"]


@pytest.mark.notebook
def test_six_notebooks_on_two_workers_of_which_one_is_killed_and_one_fails_are_each_done_once(folder):
    """The failure is reported, the others finish, exit code 1; what is done is not done again."""
    marks, numbers = folder / "marks", [3, 4, 5, 77, 6, 7]
    words = ",".join(map(str, numbers))
    path = grid_file(folder, [{"notebook": "small.ipynb", "parameters": {"number": words, "marks": str(marks)}}])
    first = hypernas_grid(path, "--workers", "2")
    assert first.returncode == 1
    assert first.stderr.startswith("6 of 6 notebooks to run on 2 workers")
    assert "Failed: small_number-77: AssertionError: no <b>luck</b>" in first.stderr
    assert sorted(map(int, marks.read_text().split())) == sorted([*numbers, 5])
    done = sorted((folder / "done").glob("*[0-9].ipynb"))
    assert [path.name for path in done] == [f"small_number-{number}.ipynb" for number in (3, 4, 5, 6, 7)]
    for file in done:
        number = int(file.stem.rpartition("-")[2])
        assert f"square {number * number}\\n" in file.read_text()
    report = (folder / "done" / "report.md").read_text()
    assert "5 executed, 0 unchanged, 1 failed, 0 not run" in report
    assert report.count("small&#95;number") == 6
    assert "&#60;b&#62;luck" in report
    assert (folder / "done" / "small_number-77.failed.ipynb").exists()
    left = [path.name for path in (folder / "done").iterdir() if path.suffix not in (".ipynb", ".md")]
    assert left == [".leases"]

    made = {file: file.read_bytes() for file in done}
    path.write_text(path.read_text().replace("77,", ""))
    again = CliRunner().invoke(cli.main, ["grid", str(path), "--workers", "2"])
    assert (again.exit_code, again.stdout) == (0, "")
    assert "5 of 5 notebooks are executed already" in again.stderr
    assert {file: file.read_bytes() for file in done} == made
    assert len(marks.read_text().split()) == 7


def test_the_book_has_every_notebook_in_the_quick_profile():
    grid = notebook_grid.read(ROOT / "book" / "grid.yml", folder=ROOT / "book" / "nowhere")
    assert names(grid) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert {execution.values["profile"] for execution in grid.executions} == {"quick"}
