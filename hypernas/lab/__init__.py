"""Experiments: benchmarks, how rows are made and stored, and which claims they support."""
