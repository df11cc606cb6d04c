"""Resume a training within a round of self-training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook


class ResumeInRound(Hook):
    """Make the optimizer of a round before MMEngine loads its state, which no loop can."""

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Make the optimizer and schedule whose state is about to be loaded."""
        loop = runner.train_loop
        if runner._resume and checkpoint['meta']['iter'] > loop.begins[0]:
            loop.reset_schedule()
