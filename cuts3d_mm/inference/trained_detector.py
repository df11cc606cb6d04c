"""Build a detector and give it its weights."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from torch import nn

from cuts3d_mm.inference.model_source import DetectorSource
from cuts3d_mm.inference.release_model import build_release_model
from cuts3d_mm.registry import MODELS
from cuts3d_mm.weights.checkpoints import check_weights_fit


def build_trained_detector(model: ConfigDict, source: DetectorSource) -> Any:
    """Build a detector with its weights, on the CPU, ready to predict.

    Args:
        model: config of the detector.
        source: of its weights; a release is built under the limits of `release_model`.

    Raises:
        ValueError: config and weights do not fit each other.
    """
    detector: Any
    if source.is_release:
        detector = build_release_model(model, source.weights)
    else:
        detector = MODELS.build(model)
    check_weights_fit(source.weights, detector.state_dict())
    detector.load_state_dict(source.weights)
    detector.dataset_meta = source.dataset_meta
    trained: nn.Module = detector.eval()
    return trained
