"""Claims about the Makefile, asked with `make -n`, which runs nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"
MOVED = "This folder was moved or copied: its environment is made anew."


def dry_run(folder):
    return subprocess.run(["make", "-n", "env"], cwd=folder, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("name", ["plain", "with a space"])
def test_a_copied_or_moved_folder_gets_its_environment_anew(tmp_path, name):
    here = tmp_path / name
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / "hypernas").mkdir()
    shutil.copy(MAKEFILE, here)
    for file in ("pyproject.toml", "constraints.txt"):
        (here / file).write_text("")
    (here / ".venv" / "bin" / "pip").write_text(f"#!{here}/.venv/bin/python\n")
    (here / ".venv" / "installed").write_text("")
    assert MOVED not in dry_run(here)
    there = shutil.copytree(here, tmp_path / "elsewhere")
    assert MOVED in dry_run(there)
    assert "-m venv --clear .venv" in dry_run(there)
