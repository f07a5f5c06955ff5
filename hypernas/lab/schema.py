"""The fields of a row: what it answers (`QUESTION`), with which settings, and the measured facts.

Every field except `settings` is described here, with its unit. Rows are averaged over the fields in `FACTS` and kept
apart by all others. A fact missing here would split every mean, so `Results` refuses to record it.
"""

from __future__ import annotations

from typing import Any

# What a row is an answer to; `settings` is an object of its own. These and the digest of the table are its key.
QUESTION = {
    "table": "results file that the row belongs to",
    "space": "search space",
    "dataset": "dataset of the benchmark table",
    "method": "predictor, search method or proxy",
    "n_train": "labels to train on, or queries of a search; none for a proxy",
    "seed": "seed of training set and training; of weights and images for a proxy",
    "profile": "quick, standard or paper",
    "protocol": "clean or pinat",
    "settings": "every setting that differs between rows of the method",
}
KEY = tuple(QUESTION)

# Ranking quality, which tables and figures are about.
METRICS = {
    "kendall_tau": "Kendall tau-b with the test accuracies of the test set",
    "kendall_tau_unseen": "the same without architectures that compute a function of the training set",
    "spearman_rho": "Spearman rho with the test accuracies of the test set",
}

# Facts of the making, which differ between rows of one experiment and mean nothing to a comparison.
MAKING = {
    "seconds": "seconds of this row, its share where several trained together",
    "seeds_together": "models that trained at once",
    "device": "model of CPU or GPU, threads",
    "version": "version of the library",
    "commit": "commit of the checkout",
    "started": "date and time, UTC",
    "image_source": "which images the networks saw",
}

MEASURED = {
    "n_test": "architectures that were ranked",
    "n_parameters": "trainable parameters of the predictor or network",
    "target_accuracy": "training images that generated networks get right, percent",
    "target_test_accuracy": "held-out images that generated networks get right, percent",
    "chosen_q": "preference q that a cross-validation chose",
    "history": "losses and weights of both tasks at some epochs",
    # searches
    "validation_accuracy": "validation accuracy of the best architecture, percent",
    "test_accuracy": "test accuracy of the best architecture, or of a trained network, percent",
    "regret": "percentage points below the best test accuracy of the table",
    "queries": "accuracies that were asked for",
    "architecture": "notation of the best architecture",
    "parameters": "its trainable parameters",
    "multiply_adds": "its multiply-adds",
    "curve": "[queries, validation accuracy, test accuracy] at each improvement",
    "front": "[cost, validation accuracy] of the Pareto front",
    "elsewhere": "its accuracies on the other datasets",
    # zero-cost proxies
    "published_rho": "Spearman rho with the published scores",
    "published_repeat_rho": "Spearman rho between published scores of two datasets",
    "n_published": "architectures with a published score",
    "n_not_finite": "architectures without a finite score",
    "seconds_per_architecture": "seconds of one score",
    # whole trainings
    "loss": "training loss of the last epoch",
    "train_accuracy": "training accuracy of the last epoch, percent",
}

# Which labels a row was made from. Rows of two tables are never averaged, so these are no facts.
ORIGIN = {"source": "sentence that names the table", "table_digest": "digest of its labels and architectures"}

# `loss` is the name of a setting too, and as such tells rows apart.
FACTS = {"table", "seed", *METRICS, *MAKING, *MEASURED} - {"loss"}
FIELDS = QUESTION | METRICS | MAKING | MEASURED | ORIGIN
# The ratios of `hypernas bench` are named by what it measures and are never averaged.
FREE_TABLES = ("bench",)

NUMBERS = {"seed", "n_train", "seconds", "seeds_together", "n_test", "n_parameters", *METRICS} | {
    "target_accuracy", "target_test_accuracy", "validation_accuracy", "test_accuracy", "regret", "queries",
    "parameters", "multiply_adds", "published_rho", "published_repeat_rho", "n_published", "n_not_finite",
    "seconds_per_architecture", "loss", "train_accuracy",
}  # fmt: skip
TEXTS = (QUESTION.keys() | ORIGIN.keys() | MAKING.keys()) - {"settings", *NUMBERS}
# A whole number beyond this fits no column of a table.
LARGEST = 2**63 - 1


def fault(row: Any) -> str:
    """Return why a value is not a row, as the end of a sentence, or "" if it is one."""
    if not isinstance(row, dict):
        return "it is no object"
    for name in KEY:
        if name not in row:
            return f"it lacks {name!r}"
    if not isinstance(row["settings"], dict):
        return "its settings are no object"
    for name, value in row.items():
        if name in TEXTS and not isinstance(value, str | None):
            return f"{name} is no text"
        if name in NUMBERS and value is not None and not _is_number(value):
            return f"{name} is no finite number"
    return ""


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST  # which no NaN is
