"""Predictions for Label Studio, as polygons: its converter of run-length codes fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cuts3d_mm.images.reading import read_image
from cuts3d_mm.labels.coco import mask_polygons
from cuts3d_mm.labels.coco_json import ANY_OBJECT

if TYPE_CHECKING:
    from cuts3d_mm.labellers.detector import Detection


def to_label_studio(
    instances: Sequence[Detection],
    image_hw: tuple[int, int],
    from_name: str = 'label',
    to_name: str = 'image',
) -> dict[str, Any]:
    """Prediction of one task: a polygon for each part of an object, in percent of the image.

    Args:
        instances: instances of the image.
        image_hw: size of the image, in pixels.
        from_name: name of the `PolygonLabels` in the labelling interface.
        to_name: name of its `Image`.
    """
    height, width = image_hw
    regions = []
    for number, one in enumerate(instances):
        for part, polygon in enumerate(mask_polygons(one.mask)):
            percent = np.reshape(polygon, (-1, 2)) * (100 / width, 100 / height)
            regions.append(
                {
                    'id': f'{number}-{part}',
                    'from_name': from_name,
                    'to_name': to_name,
                    'type': 'polygonlabels',
                    'original_width': width,
                    'original_height': height,
                    'image_rotation': 0,
                    'score': float(one.score),
                    'value': {
                        'points': np.round(percent, 4).tolist(),
                        'polygonlabels': [one.category or ANY_OBJECT],
                        'closed': True,
                    },
                }
            )
    score = float(np.mean([one.score for one in instances])) if instances else 0.0
    return {'result': regions, 'score': score, 'model_version': 'cuts3d_mm'}


def predict_tasks(
    detector: Any,
    tasks: Iterable[dict[str, Any]],
    locate: Callable[[str], str],
    from_name: str = 'label',
    to_name: str = 'image',
    key: str = 'image',
) -> list[dict[str, Any]]:
    """Predict for tasks, as `LabelStudioMLBase.predict` must.

    Args:
        detector: result of `cuts3d_mm.load_detector`.
        tasks: tasks of Label Studio.
        locate: address of an image -> its file on this machine.
        from_name: name of the `PolygonLabels` in the labelling interface.
        to_name: name of its `Image`.
        key: key of the image's address in the data of a task.

    Raises:
        ImageFailure: an image cannot be read.
    """
    predictions = []
    for task in tasks:
        image = read_image(Path(locate(task['data'][key])))
        image_hw = image.shape[0], image.shape[1]
        found = detector.predict(image)
        predictions.append(to_label_studio(found, image_hw, from_name, to_name))
    return predictions
