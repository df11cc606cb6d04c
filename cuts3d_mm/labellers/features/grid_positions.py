"""Keep the position embeddings of the latest grid of patches, since most images have the same."""

from __future__ import annotations

from torch import Tensor, device

from cuts3d_mm.algorithm.position_embedding import interpolate_positions


class GridPositions:
    """Position embeddings of a network, interpolated once for images of one size.

    Args:
        trained_hw: patches of the grid that the network was trained on.
        offset: patches added to the sides of a new grid, see `interpolate_positions`.
    """

    def __init__(self, trained_hw: tuple[int, int], offset: float) -> None:
        self._trained_hw, self._offset = trained_hw, offset
        self._latest: tuple[tuple[int, int], device, Tensor] | None = None

    def on(self, grid_hw: tuple[int, int], positions: Tensor) -> Tensor:
        """Bring the embeddings to a grid.

        Args:
            grid_hw: the grid.
            positions: those of the network, which change by their device only.

        Returns:
            (1, E + h * w, C), see `interpolate_positions`.
        """
        if self._latest is None or self._latest[:2] != (grid_hw, positions.device):
            resized = interpolate_positions(positions, self._trained_hw, grid_hw, self._offset)
            self._latest = grid_hw, positions.device, resized
        return self._latest[2]
