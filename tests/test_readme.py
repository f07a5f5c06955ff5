"""What the README shows works."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hypernas.cli import main

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def shown():
    return blocks("python")[0]


def test_the_library_is_shown_in_six_lines(shown):
    assert len([line for line in shown.splitlines() if line.strip()]) <= 6


def test_what_is_shown_runs_and_gives_what_the_sentences_say(shown, tmp_path, monkeypatch):
    """With two epochs in place of many, and a few predictions in place of all."""
    monkeypatch.chdir(tmp_path)
    quick, replaced = re.subn(r"epochs=\d+", "epochs=2", shown)
    assert replaced == 1
    assert "predict(graphs[test])" in quick
    names = {}
    exec(compile(quick.replace("graphs[test]", "graphs[test[:200]]"), str(README), "exec"), names)
    assert f"{len(names['test']):,} architectures" in README.read_text(encoding="utf-8")
    assert names["predicted"].shape == (200,)
    assert names["predicted"].isfinite().all()
    assert 0 < torch.median(names["predicted"]) < 100
    exec(compile(blocks("python")[1], str(README), "exec"), names)
    assert names["accuracy"].shape == (1,)
    assert torch.allclose(names["accuracy"], names["predictor"].predict(names["mine"]))
    assert [path.name for path in tmp_path.iterdir()] == ["predictor.hypernas"]


def test_the_size_of_the_installation_and_the_index_of_cpu_builds_are_said():
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert re.search(r"takes \d GB on disk", text)
    assert re.search(r"index of PyTorch's CPU builds, `make book PIP_FLAGS=\"--extra-index-url URL\"`", text)


def test_the_practitioners_commands_end_in_a_ranked_list(tmp_path, monkeypatch):
    (block,) = [block for block in blocks("sh") if "hypernas fit" in block]
    lines = block.strip().splitlines()
    assert len(lines) <= 12
    monkeypatch.chdir(tmp_path)
    for line in lines:
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    header, *ranked = result.output.strip().splitlines()
    assert header == "accuracy,notation"
    accuracies = [float(line.split(",")[0]) for line in ranked]
    assert len(ranked) == 10
    assert accuracies == sorted(accuracies, reverse=True)


def test_every_path_that_the_readme_links_exists():
    links = re.findall(r"\]\(([\w./-]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
