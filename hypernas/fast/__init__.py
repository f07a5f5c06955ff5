"""The same numbers, sooner. You can skip this folder: each file names its oracle, the plain version it must equal."""
