"""What the commands that compute rows share: grids from text, rows in words, a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from hypernas.errors import UserError

if TYPE_CHECKING:
    from hypernas.lab.experiment import Experiment, Outcome


def whole_numbers(name: str, text: str) -> list[int]:
    """`0,2,5:8` -> [0, 2, 5, 6, 7]. Raises UserError for anything else and for an empty range."""
    numbers: list[int] = []
    for part in text.split(","):
        first, colon, end = part.partition(":")
        try:
            numbers += range(int(first), int(end)) if colon else [int(first)]
        except ValueError as error:
            raise UserError(f"{name} must be whole numbers such as 78, 39,78 or 0:5, got {text!r}") from error
    if not numbers:
        raise UserError(f"{name} must hold at least one number, got the empty range {text!r}")
    return list(dict.fromkeys(numbers))


def pairs(texts: Iterable[str], option: str = "--set") -> dict[str, str]:
    """`key=value` texts -> dictionary. Raises UserError for another form and for a key given twice."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals or key in found:
            raise UserError(f"{option} must be key=value with every key once, got {text!r}")
        found[key] = value
    return found


def plan(extra: dict[str, str], options: dict[str, Any]) -> list[Experiment]:
    """Every combination of method, size and seed; a setting reaches the methods that have it."""
    from hypernas.lab.experiment import OF_AN_EXPERIMENT, Experiment, settings_of

    names = ("table", "space", "dataset", "profile", "protocol")
    fixed = {name: options[name] for name in names}
    listed = ("method", "n_train", "seed")
    chosen = {name: value for name, value in options.items() if name not in names + listed and value is not None}
    if twice := chosen.keys() & extra.keys():
        raise UserError(f"a setting must be given once, got {sorted(twice)[0]!r} twice")
    chosen |= extra
    methods = list(dict.fromkeys(options["method"].split(",")))
    accepted = {method: {"graph_form", *OF_AN_EXPERIMENT, *settings_of(method)} for method in methods}
    anywhere = set().union(*accepted.values())
    sizes, seeds = whole_numbers("n_train", options["n_train"]), whole_numbers("seed", options["seed"])
    return [
        Experiment(**fixed, method=method, n_train=size, seed=seed, settings={
            name: value for name, value in chosen.items() if name in accepted[method] or name not in anywhere
        })
        for method in methods for size in sizes for seed in seeds
    ]  # fmt: skip


def with_progress(rows: Iterable[Any], total: int) -> Iterable[Any]:
    """The rows, with a bar on stderr that leaves the lines printed on stdout whole."""
    from tqdm import tqdm

    bar = tqdm(total=total, unit="row", file=sys.stderr, disable=None if total > 1 else True)
    with bar:
        for row in rows:
            with nullcontext() if bar.disable else tqdm.external_write_mode(sys.stdout):
                yield row
            bar.update()


def told(outcome: Outcome, as_json: bool) -> str:
    """A row as a line, and whether it was trained now or recorded before, and from which table."""
    state = "trained" if outcome.trained else "recorded"
    if as_json:
        return json.dumps({**outcome.row, "state": state})
    return f"{in_words(outcome.row)}  {state}, from {outcome.row.get('source', 'an unnamed table')}"


def in_words(row: dict[str, Any]) -> str:
    if "architecture" in row:
        return _found(row)
    unseen = "–" if row["kendall_tau_unseen"] is None else f"{row['kendall_tau_unseen']:.4f}"
    return (
        f"{row['method']}  {row['space']}/{row['dataset']}  n_train {row['n_train']}  seed {row['seed']}  "
        f"{row['settings']['graph_form']}  kendall_tau {row['kendall_tau']:.4f}  unseen {unseen}  "
        f"spearman_rho {row['spearman_rho']:.4f}  {row['seconds']:.1f} s"
    )


def _found(row: dict[str, Any]) -> str:
    method = ", ".join(str(each) for each in (row["method"], row["settings"].get("predictor")) if each)
    test = "" if row["test_accuracy"] is None else f"  test {row['test_accuracy']:.2f} %"
    return (
        f"{method}  {row['space']}/{row['dataset']}  seed {row['seed']}  {row['queries']} queries  "
        f"best {row['validation_accuracy']:.2f} %{test}  {row['parameters']:,} parameters  "
        f"{row['multiply_adds']:,} multiply-adds  {row['seconds']:.1f} s  {row['architecture']}"
    )
