"""Numbers as text."""

from __future__ import annotations

DIGITS = {"kendall_tau": 3, "kendall_tau_unseen": 3, "spearman_rho": 3, "target_accuracy": 1, "target_test_accuracy": 1}
DIGITS |= {"validation_accuracy": 2, "test_accuracy": 2, "regret": 2}


def number(value: float | None, metric: str = "kendall_tau", sign: bool = False) -> str:
    """A value of a metric with the digits that it deserves, "–" where it is missing; what rounds to 0 has no sign.

    >>> number(0.6784), number(91.26, "target_test_accuracy"), number(-1234.0, "n_parameters", sign=True)
    ('0.678', '91.3', '−1,234')
    """
    if value is None or value != value:
        return "–"
    text = f"{value:+,.{DIGITS.get(metric, 0)}f}"
    nothing = not float(text.replace(",", ""))
    return text[1:] if nothing or (text[0] == "+" and not sign) else text.replace("-", "−")
