"""Read weights and checkpoints as data. Importing this makes MMEngine read them so, too."""

from cuts3d_mm.weights.mmengine_loader import install
from cuts3d_mm.weights.state_file import StateFile, read_state, require_tensors

__all__ = ['StateFile', 'read_state', 'require_tensors']

install()
