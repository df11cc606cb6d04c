"""Evaluation sets; each file describes one as `SET`, and its name is that of the set."""
