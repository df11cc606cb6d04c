"""Weights in and out. Importing this lets MMEngine load `hf://` checkpoints."""

from cuts3d_mm.hub.checkpoint_loader import load_from_hub

__all__ = ['load_from_hub']
