"""Seven mistakes with a space and labels of one's own: each is one sentence, exit code 2, and leaves no file."""

import json

import pytest
from click.testing import CliRunner

from hypernas.cli import main

SPACE = """
from hypernas.spaces.choice import ChoiceSpace

choices = {"stem.kernel": [3, 5], "body.kernel": [3, 5, 7], "body.depth": [1, 2, 3]}
space = ChoiceSpace(choices, name="mine", count=lambda chosen: (100 * chosen["body.kernel"], 1000))
"""
DEPTHS = [(kernel, depth) for kernel in (3, 5, 7) for depth in (1, 2, 3)]
ROWS = [
    (json.dumps({"stem.kernel": 3, "body.kernel": kernel, "body.depth": depth}), 80 + kernel + depth)
    for kernel, depth in DEPTHS
]


def csv(rows, header="notation,accuracy"):
    lines = ['"' + notation.replace('"', '""') + f'",{accuracy}' for notation, accuracy in rows]
    return "\n".join([header, *lines]) + "\n"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function (words) -> exit code and output of `hypernas` in a folder with mine.py."""
    monkeypatch.chdir(tmp_path)
    # A path that was asked for is added to it; the next test must not find this one's file.
    monkeypatch.setenv("HYPERNAS_PLUGINS", "")
    (tmp_path / "mine.py").write_text(SPACE)

    def run(*words):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


FIT = ("fit", "--space", "mine.py", "--labels", "labels.csv", "--method", "ridge", "-o", "p.hypernas")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (csv([(ROWS[0][0].replace('"body.depth": 1', '"body.depth": 4'), 90), *ROWS]),
         "operation must be one of 1, 2, 3, got 4 for body.depth"),
        (csv([*ROWS, (ROWS[0][0], 95)]), "must have one accuracy, got 84 in row 0 and 95 in row 9"),
        (csv(ROWS, "notation,top1"), "must have a column 'accuracy', got notation, top1"),
        (csv([*ROWS, (ROWS[0][0].replace(": 3,", ": 5,"), "nan")]), "got nan in row 9"),
        (csv(ROWS[:4]), "at least 5 rows, got 4"),
    ],
    ids=["unknown choice", "two accuracies", "missing column", "nan", "four labels"],
)  # fmt: skip
def test_wrong_labels_are_one_sentence(command, tmp_path, labels, told):
    (tmp_path / "labels.csv").write_text(labels)
    before = sorted(tmp_path.iterdir())
    code, said = command(*FIT)
    assert (code, len(said.strip().splitlines())) == (2, 1), said
    assert told in said
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


def test_right_labels_are_fitted(command, tmp_path):
    (tmp_path / "labels.csv").write_text(csv(ROWS))
    assert command(*FIT)[0] == 0
    assert (tmp_path / "p.hypernas").is_file()


def test_a_constraint_that_nothing_meets_says_the_smallest(command, tmp_path):
    code, said = command("ask", "j.jsonl", "--space", "mine.py", "--method", "random", "--constraint", "params<200")
    assert (code, len(said.strip().splitlines())) == (2, 1)
    assert "the smallest one found has 300 parameters, got 200" in said


def test_a_plugin_that_does_not_import_is_one_sentence(command, tmp_path):
    (tmp_path / "mine.py").write_text("import no_such_module\n\nspace = 1\n")
    (tmp_path / "labels.csv").write_text(csv(ROWS))
    code, said = command(*FIT)
    assert (code, len(said.strip().splitlines())) == (2, 1)
    assert "must be a file that imports, got ModuleNotFoundError" in said
    assert not (tmp_path / "p.hypernas").exists()
