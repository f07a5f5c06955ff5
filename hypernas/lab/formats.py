"""Format values as text: the only place that formats numbers, intervals, and values from rows, tables or files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from hypernas.errors import UserError

DIGITS = {
    "kendall_tau": 3,
    "kendall_tau_unseen": 3,
    "spearman_rho": 3,
    "target_accuracy": 1,
    "target_test_accuracy": 1,
    "validation_accuracy": 2,
    "test_accuracy": 2,
    "regret": 2,
    "label_factor": 1,
    "ghn_over_hypernas": 1,
    "paper_training_minutes": 1,
}
# What `hypernas bench` measures and a claim is about.
COSTS = ("ghn_over_hypernas", "paper_training_minutes")
# A factor and a cost are no differences: 1.2 times has no sign.
UNSIGNED = ("label_factor", *COSTS)
MISSING = "–"
# Everything that could be markup in HTML, Markdown or a formula. A character reference is text in each of them.
MARKUP = re.compile(r"[&<>\"'`*_\[\]()|$\\~#{}!^]")
# More numbers than anyone lists: a range beyond it is a slip of the keyboard, and would fill the memory.
MOST_NUMBERS = 100_000


def number(
    value: float | None,
    metric: str = "kendall_tau",
    sign: bool = False,
    digits: int | None = None,
) -> str:
    """Return a value of a metric with the appropriate digits, or so many `digits`, "–" if it is missing.

    A value that rounds to 0 has no sign.

    >>> number(0.6784), number(91.26, "target_test_accuracy"), number(-1234.0, "n_parameters", sign=True)
    ('0.678', '91.3', '−1,234')
    """
    if value is None or value != value:
        return MISSING
    text = f"{value:+,.{DIGITS.get(metric, 0) if digits is None else digits}f}"
    is_zero = not float(text.replace(",", ""))
    if is_zero or (text[0] == "+" and not sign):
        return text[1:]
    return text.replace("-", "−")


def estimate(line: Mapping[Any, Any], metric: str = "kendall_tau") -> str:
    """Return the `difference` of a line, followed by its interval `low`, `high` in brackets if it has one.

    >>> estimate({"difference": 0.0071, "low": 0.0041, "high": 0.0101})
    '+0.007 [+0.004, +0.010]'
    >>> estimate({"difference": -0.0072, "low": -0.0143, "high": -0.0002})
    '−0.0072 [−0.0143, −0.0002]'
    >>> estimate({"difference": 10440.0, "low": float("nan"), "high": float("nan")}, "n_parameters")
    '+10,440'
    """
    sign = metric not in UNSIGNED
    digits = DIGITS.get(metric, 0)
    bounds = line["low"], line["high"]
    # A bound decides by its side of 0, so it must not be rounded to it.
    if digits and any(bound and round(bound, digits) == 0 for bound in bounds):
        digits += 1
    middle, low, high = (number(value, metric, sign, digits) for value in (line["difference"], *bounds))
    return middle if low == MISSING else f"{middle} [{low}, {high}]"


def repeats(n: int, metric: str) -> str:
    """Return how often something was run: costs have runs, everything else has seeds.

    >>> repeats(1, "paper_training_minutes"), repeats(5, "kendall_tau")
    ('1 run', '5 seeds')
    """
    name = "run" if metric in COSTS else "seed"
    return f"{n} {name}" if n == 1 else f"{n} {name}s"


def plain(value: Any) -> str:
    """Return any value as text that is safe in HTML and Markdown, "–" if it is missing.

    >>> plain("<img src=x onerror=alert>")
    '&#60;img src=x onerror=alert&#62;'
    >>> plain(1.5), plain(None), plain("few_shot")
    ('1.5', '–', 'few&#95;shot')
    """
    if value is None or value != value or str(value) in ("<NA>", "nan", "NaT"):
        return MISSING
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def whole_numbers(name: str, text: str) -> list[int]:
    """`0,2,5:8` -> [0, 2, 5, 6, 7]. Raise UserError for anything else and for an empty range."""
    numbers: list[int] = []
    for part in text.split(","):
        first, colon, end = part.partition(":")
        try:
            more = range(int(first), int(end)) if colon else [int(first)]
        except ValueError as error:
            raise UserError(f"{name} must be whole numbers such as 78, 39,78 or 0:5, got {text!r}") from error
        # The length of a range beyond the largest machine integer cannot be asked for, its first hundred thousand can.
        numbers += islice(more, MOST_NUMBERS + 1)
        if len(numbers) > MOST_NUMBERS:
            raise UserError(f"{name} must be at most {MOST_NUMBERS:,} numbers, got {text!r}")
    if not numbers:
        raise UserError(f"{name} must hold at least one number, got the empty range {text!r}")
    return list(dict.fromkeys(numbers))


def in_words(seconds: float) -> str:
    """Return a duration in its largest useful unit.

    >>> in_words(3), in_words(400), in_words(20000)
    ('3 s', '7 min', '5.6 h')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def to_do(
    n: int,
    total: int,
    work: str,
    where: str,
    seconds: float | None,
    basis: str,
    done: str,
) -> str:
    """Return a sentence that says how much of a work is left, where it runs, and for about how long.

    >>> to_do(3, 4, "rows to compute", "2 workers", 400.0, "rows like them", "are recorded already")
    '3 of 4 rows to compute on 2 workers, about 7 min by rows like them; 1 are recorded already'
    """
    duration = "" if seconds is None else f", about {in_words(seconds)} by {basis}"
    rest = f"; {total - n} {done}" if n < total else ""
    return f"{n} of {total} {work} on {where}{duration}{rest}"
