"""Importing this lets MMEngine load every file of weights, and `hf://`, through our reader."""

from cuts3d_mm.weights.mmengine_loader import install

install()
