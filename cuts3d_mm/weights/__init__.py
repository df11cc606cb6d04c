"""Read weights and checkpoints as data."""

from .checkpoints import StateFile, read_state, require_tensors

__all__ = ['StateFile', 'read_state', 'require_tensors']
