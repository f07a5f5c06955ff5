"""Claims about files that are whole or not there."""

import os
import platform
import signal
import subprocess
import sys

import pytest
from forked import forked

from hypernas.data.labelled import write_labelled
from hypernas.training.files import is_alive, replaced


@pytest.fixture(scope="module")
def gone():
    """The number of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def stopped(path):
    with replaced(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_a_file_appears_when_it_is_whole_and_an_error_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    with replaced(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(KeyboardInterrupt):
        stopped(path)
    assert path.read_text() == "one"
    assert [*tmp_path.iterdir()] == [path]


def test_what_dead_processes_left_half_written_for_this_file_is_removed_and_nothing_else(tmp_path, gone):
    host = platform.node()
    ours = f".file.{host}.{gone}"
    others = {
        f".file.{host}.{os.getppid()}", f".file.elsewhere.{gone}", f".file2.{host}.{gone}", f".file.{host}.note",
        f"file.{gone}", f".file.{host}.{2**70}",
    }  # fmt: skip
    for name in (ours, *others):
        (tmp_path / name).write_text("half")
    with replaced(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"file", *others}


def test_a_process_of_this_machine_is_alive_until_it_ends(gone):
    assert is_alive(os.getpid())
    assert is_alive(1)
    assert not is_alive(gone)


def killed_while_writing(path):
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    write_labelled(path, {"notation": ["x"]}, {})


def test_a_table_whose_writer_is_killed_leaves_nothing_after_the_next_one(tmp_path):
    path = tmp_path / "table.parquet"
    process = forked(killed_while_writing, path)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".table.parquet.")
    write_labelled(path, {"notation": ["x"]}, {})
    assert [*tmp_path.iterdir()] == [path]
