"""The comparison of two builds of the book finds what changed, and says where."""

import json

import compare_pages

BEFORE = (
    "<table><tr><th>method</th><th>tau</th></tr><tr><td>np</td><td>{}</td></tr></table><p>Over NP {}, 10 seeds.</p>"
)


def written(folder, **pages):
    folder.mkdir()
    for name, html in pages.items():
        cell = {"source": "9.87", "outputs": [{"data": {"text/html": f"<style>.a {{ top: 55px }}</style>{html}"}}]}
        (folder / f"{name}.ipynb").write_text(json.dumps({"cells": [{"source": "1.23"}, cell]}))
    return str(folder)


def test_a_number_that_only_one_build_shows_is_printed_with_its_place(tmp_path, monkeypatch, capsys):
    before = written(tmp_path / "before", old=BEFORE.format("0.788 ± 0.028", "−0.0143"), other="<p>0.5</p>")
    after = written(tmp_path / "after", new=BEFORE.format("0.784 ± 0.028", "−0.014"), other="<p>0.5 and 0.788</p>")
    monkeypatch.setattr("sys.argv", ["compare_pages.py", before, after, "old=new"])
    compare_pages.main()
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        "old: 4 numbers before, 4 after, 2 in both",
        "-^    0.788  tau: np | 0.788 ± 0.028",
        "-~  -0.0143  Over NP −0.0143, 10 seeds.",
        "+     0.784  tau: np | 0.784 ± 0.028",
        "+~   -0.014  Over NP −0.014, 10 seeds.",
        "other: 1 numbers before, 2 after, 1 in both",
        "+^    0.788  0.5 and 0.788",
        "{'-^': 1, '-~': 1, '+ ': 1, '+~': 1, '+^': 1}",
    ]


def test_names_commits_and_notations_are_no_numbers():
    text = "NAS-Bench-201, 0184822, |nor_conv_3x3~0|, 2026-11-25, 15,625 of 8.5 %, +0.01 to −2"
    assert compare_pages.NUMBER.findall(text) == ["15,625", "8.5", "+0.01", "−2"]
