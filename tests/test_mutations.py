"""Wrong inputs of every kind get an answer: a result or one sentence, no traceback, no hang, no changed file."""

import pytest
from click.testing import CliRunner
from mutations import COMMANDS, FAMILIES, prepare_files, run, words_of

from hypernas.cli import main

# Those that would take long, or need the network, begin with a file or a name that is not there.
NOT_RUN = ("label", "train", "run", "check space", "data fetch", "data check")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_of_the_wrong_inputs_are_answered_in_a_sentence(family):
    """`python tests/mutations.py` runs all of them."""
    tried, misses = run(0.05, [family])
    assert tried[family] >= 10
    assert [f"{case.said}: {wrong}" for case, wrong in misses] == []


def test_the_commands_that_are_altered_run_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERNAS_RESULTS", str(tmp_path / "results"))
    prepare_files()
    for name, options in COMMANDS.items():
        if name not in NOT_RUN:
            done = CliRunner().invoke(main, words_of(name, options))
            assert done.exit_code == 0, f"{name}: {done.output}"
