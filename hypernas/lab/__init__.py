"""Experiments: benchmarks, what makes a row, rows on disk, and what may be said of them."""
