"""Evaluation: what a run has learned, against what counting alone would have learned, and the page that shows it.

Owns baselines, bits per second on held-out speech, the self-contained report of a run, and `inspect`.
"""
