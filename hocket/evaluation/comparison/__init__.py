"""Comparing runs: which interleaving is better, and by how much, where that may be said at all.

Reads run folders and what `hocket evaluate` left in them, ranks only what may be ranked (`groups`), and writes one
page that needs nothing outside it, with two CSV files beside it (`page`, `records`).
"""

from hocket.evaluation.comparison.page import Written, compare_runs

__all__ = ["Written", "compare_runs"]
