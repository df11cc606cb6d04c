"""Inner loops compiled by numba, one file each, and the choice between them and plain code."""
