"""The paper: arrays in, arrays out. Start with `cut_instances.py`."""
