"""An auto-annotation function of CVAT: `--function-module cuts3d_mm.integrations.cvat`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cuts3d_mm import api
from cuts3d_mm.labels.coco import mask_polygons

if TYPE_CHECKING:
    from cuts3d_mm.labellers.detector import Detection


class CutS3DFunction:
    """Finds every object of a frame; `spec` has the labels, `detect` the shapes.

    Args:
        model: detector as for `cuts3d_mm.load_detector`.
        weights: weights as for `load_detector`.
        device: device of the network.
        score_thr: smallest score, in [0, 1]; the task may ask for a higher one.
    """

    def __init__(
        self,
        model: str | None = None,
        weights: str | None = None,
        device: str = 'auto',
        score_thr: float = 0.3,
    ) -> None:
        import cvat_sdk.auto_annotation as cvat

        self._cvat = cvat
        self._detector = api.load_detector(model, weights, device, score_thr)
        self.spec: Any = cvat.DetectionFunctionSpec(
            labels=[
                cvat.label_spec(name, number, type='mask')
                for number, name in enumerate(self._detector.classes)
            ]
        )

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Find the objects of a frame: masks, or polygons where the context asks for them."""
        least = context.conf_threshold or 0.0
        found = self._detector.predict(np.asarray(image.convert('RGB')))
        kept = [one for one in found if one.score >= least]
        return [
            shape
            for number, one in enumerate(kept, start=1)
            for shape in self._shapes(one, number, context.conv_mask_to_poly)
        ]

    def _shapes(self, one: Detection, number: int, as_polygons: bool) -> Iterator[Any]:
        label = one.label if one.label < len(self._detector.classes) else 0
        if not as_polygons:
            from cvat_sdk.masks import encode_mask

            yield self._cvat.mask(label, encode_mask(one.mask))
            return
        polygons = mask_polygons(one.mask)
        for polygon in polygons:  # the parts of an object are a group
            group = number if len(polygons) > 1 else 0
            yield self._cvat.polygon(label, polygon, group=group)


create = CutS3DFunction
