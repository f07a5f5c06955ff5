"""Search methods and the sources of accuracy that they query."""
