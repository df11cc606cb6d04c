"""Executors, which label the shards of a run."""
