"""Paths, whole files, locks and places: plumbing that knows nothing of labels."""
