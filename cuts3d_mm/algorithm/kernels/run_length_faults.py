"""Compile the search for what is wrong with a run-length code."""

from __future__ import annotations

from numba import njit

from cuts3d_mm.algorithm import run_length_faults

find_fault = njit(cache=True)(run_length_faults.find_fault)
