"""Search methods and the oracles they ask."""
