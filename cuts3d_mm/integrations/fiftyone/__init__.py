"""A model of FiftyOne's zoo; `manifest.json` makes this folder a source of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm import api
from cuts3d_mm.labels.coco_json import ANY_OBJECT


def download_model(model_name: str, model_path: str) -> None:
    """Make the folder that FiftyOne expects; weights are fetched by `load_model`, by name."""
    Path(model_path).mkdir(parents=True, exist_ok=True)


def load_model(
    model_name: str = 'cuts3d',
    model_path: str | None = None,
    model: str | None = None,
    weights: str | None = None,
    device: str = 'auto',
    score_thr: float = 0.3,
) -> Any:
    """Load a detector as a `fiftyone.Model`, for `dataset.apply_model(model)`.

    Args:
        model_name: name in the zoo.
        model_path: folder of the zoo, which is not used.
        model: detector as for `cuts3d_mm.load_detector`.
        weights: weights as for `load_detector`.
        device: device of the network.
        score_thr: smallest score, in [0, 1].
    """
    import fiftyone.core.labels as labels
    import fiftyone.core.models as models

    detector = api.load_detector(model, weights, device, score_thr)

    class CutS3DModel(models.Model):  # type: ignore[misc]
        media_type = 'image'
        has_logits = ragged_batches = False
        transforms = None
        preprocess = False

        def predict(self, arg: Any) -> Any:
            """Find the objects of an image, (H, W, 3) uint8 RGB."""
            image = np.ascontiguousarray(np.asarray(arg)[..., :3])
            found = detector.predict(image)
            return labels.Detections(detections=[_detection(one) for one in found])

    def _detection(one: Any) -> Any:
        rows, columns = np.flatnonzero(one.mask.any(axis=1)), np.flatnonzero(one.mask.any(axis=0))
        (top, bottom), (left, right) = rows[[0, -1]] + [0, 1], columns[[0, -1]] + [0, 1]
        height, width = one.mask.shape
        box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
        return labels.Detection(
            label=one.category or ANY_OBJECT,
            bounding_box=[float(share) for share in box],
            mask=one.mask[top:bottom, left:right],
            confidence=float(one.score),
        )

    return CutS3DModel()
