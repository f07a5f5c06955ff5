"""The same numbers, faster.

You can skip this folder: each file names its oracle, the plain version that it must equal.
"""
