"""`python -m hypernas` is `hypernas`."""

from hypernas.cli import main

main(prog_name="hypernas")
