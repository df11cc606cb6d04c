"""The algorithm of the paper, as pure functions of arrays. Start with `cut_instances.py`."""
