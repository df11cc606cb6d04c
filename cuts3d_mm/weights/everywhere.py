"""Importing this lets MMEngine load every file of weights, and `hf://`, through our reader."""

from .mmengine_loader import install

install()
