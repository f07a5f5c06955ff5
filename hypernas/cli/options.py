"""The options that several commands have: one spelling and one sentence each."""

from __future__ import annotations

import click

space = click.option("--space", required=True, help="Search space.")
dataset = click.option("--dataset", help="Dataset of the benchmark table.  [default: the first one present]")
seed = click.option("--seed", default="0", show_default=True, help="Seed, several with commas, or 0:5.")
profile = click.option("--profile", default="standard", show_default=True, help="quick, standard or paper.")
threads = click.option("--threads", type=click.IntRange(1, 4096), help="Threads of the CPU.")
device = click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
force = click.option("--force", is_flag=True, help="Compute again and replace the recorded rows.")
dry_run = click.option("--dry-run", is_flag=True, help="List what would be computed and what is recorded, do nothing.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print each row as one line of JSON.")
settings = click.option(
    "--set", "--setting", "extra", multiple=True, metavar="KEY=VALUE", help="Any other setting of the method."
)
