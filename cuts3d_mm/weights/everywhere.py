"""Let MMEngine load every file of weights, and `hf://`, through our reader, by an import."""

from .mmengine_loader import install

install()
