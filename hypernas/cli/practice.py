"""The commands for practitioners: `hypernas sample`, `fit`, `predict` and `rank`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hypernas.cli import options
from hypernas.cli.rows import pairs
from hypernas.errors import UserError
from hypernas.training.files import replaced

if TYPE_CHECKING:
    import pandas as pd

SEED = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed.")
OUT = click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="File to write.  [default: print to the terminal]"
)
SPACE = click.option("--space", help="Search space, if it is a file of your own.  [default: that of PREDICTOR]")
PREDICTOR = click.argument("predictor", type=click.Path(path_type=Path))


def _write(table: pd.DataFrame, out: Path | None) -> None:
    """Print a table as CSV, or write it to a file that is whole or not there."""
    text = table.to_csv(index=False, float_format="%.4f")
    if out is None:
        click.echo(text, nl=False)
        return
    with replaced(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


@click.command()
@options.space
@click.option("--n", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="Number of architectures.")
@click.option("--labelled", is_flag=True, help="Sample labelled rows of the space's own table, to try things out.")
@options.dataset
@SEED
@OUT
def sample(space: str, n: int, labelled: bool, dataset: str | None, seed: int, out: Path | None) -> None:
    """Print random architectures of a space as CSV.

    Train them and add a column of accuracies to get labels for `hypernas fit`.
    """
    import pandas as pd

    from hypernas.lab import practice

    if labelled:
        table = practice.labelled(space, dataset, n, seed)
    else:
        table = pd.DataFrame({"notation": practice.sample(space, n, seed)})
    _write(table, out)


@click.command()
@options.space
@click.option(
    "--labels", type=click.Path(path_type=Path), required=True, help="Labels: a CSV, Parquet or JSON lines file."
)
@click.option("--method", default="auto", show_default=True, help="Predictors, separated by commas, or auto.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File for the fitted predictor.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    help="Start no further method after this time.",
)
@SEED
@options.settings
@options.threads
@options.device
def fit(
    space: str,
    labels: Path,
    method: str,
    out: Path,
    seconds: float,
    seed: int,
    extra: tuple[str, ...],
    threads: int | None,
    device: str,
) -> None:
    """Fit a predictor to your own labels.

    The labels are a table with the columns `notation` and `accuracy`. Cross-validation estimates how well each
    predictor ranks architectures that it was not fitted to, in comparison with ridge regression on one-hot features. Of
    several predictors, or with auto, the one that ranks best is saved.
    """
    import torch

    from hypernas.lab import practice
    from hypernas.lab.persistence import save

    if threads:
        torch.set_num_threads(threads)
    here = practice.Practice(space, labels, pairs(extra), seed)
    candidates = here.candidates(method)
    here.check(candidates, device)
    click.echo(f"{len(here.labels)} labels of {here.benchmark.space.name}, {len(here.folds())} folds")
    options.tell(here.cost(method, seconds, device))
    estimates = []
    for estimate in here.estimates(method, seconds, device):
        low, high = estimate.interval()
        interval = f"tau {estimate.tau:.3f} ({low:.3f} to {high:.3f})"
        click.echo(f"{estimate.method:<15} {interval}   {estimate.seconds:.1f} s")
        estimates.append(estimate)
    left_out = [name for name in candidates if name not in {estimate.method for estimate in estimates}]
    if left_out:
        click.echo(f"not tried after {seconds:g} s: {', '.join(left_out)}; --seconds or --method reaches them")
    best = practice.best(estimates, candidates)
    click.echo(practice.verdict(best, estimates[0], len(candidates) - len(left_out)))
    save(here.fit(best.method, device), out)
    click.echo(f"{best.method}, fitted to all labels, is in {out}")


@click.command()
@PREDICTOR
@click.argument("architectures", type=click.Path(path_type=Path))
@SPACE
@OUT
@options.device
def predict(predictor: Path, architectures: Path, space: str | None, out: Path | None, device: str) -> None:
    """Predict the accuracy of architectures.

    Prints the predictions of a saved PREDICTOR as CSV. The file ARCHITECTURES has one notation a line.
    """
    from hypernas.lab import practice

    notations = practice.read_architectures(architectures)
    _write(practice.predict(predictor, notations, device, space), out)


@click.command()
@PREDICTOR
@click.argument("architectures", type=click.Path(path_type=Path), required=False)
@click.option("--sample", "n", type=click.IntRange(1, 1_000_000), help="Rank this many random architectures.")
@click.option("--top", type=click.IntRange(1), help="Print only this many.  [default: all]")
@SEED
@SPACE
@OUT
@options.device
def rank(
    predictor: Path, architectures: Path | None, n: int | None, top: int | None, seed: int, space: str | None,
    out: Path | None, device: str,
) -> None:  # fmt: skip
    """Rank architectures with a saved predictor, best first.

    Ranks those in the file ARCHITECTURES, or random ones with --sample.
    """
    from hypernas.lab import practice
    from hypernas.lab.persistence import space_of

    if (architectures is None) == (n is None):
        raise UserError("what is ranked must be one of a file and --sample, got both or none")
    if architectures is not None:
        notations = practice.read_architectures(architectures)
    else:
        notations = practice.sample(space or space_of(predictor), n or 0, seed)
    _write(practice.ranked(predictor, notations, top or 0, device=device, space=space), out)
