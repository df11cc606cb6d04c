"""Label records and their images in, overlay files out."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from PIL import Image

from cuts3d_mm.labelling.images import read_image
from cuts3d_mm.labels.record import ImageRecord, decode_mask
from cuts3d_mm.visualization.overlays import draw_instances


def draw_records(
    records: Iterable[ImageRecord], images: Path, out: Path, limit: int | None = None
) -> int:
    """Draw labelled images as `out/NAME.jpg`, folders included.

    Returns:
        Number of images drawn; failed ones are left out.

    Raises:
        ImageFailure: an image cannot be read.
        ValueError: an image has another size than its labels.
    """
    num_drawn = 0
    labelled = (record for record in records if record.failure is None)
    for record in islice(labelled, limit):
        pixels = read_image(images / record.name)
        if pixels.shape[:2] != record.image_hw:
            raise ValueError(
                f'{record.name} must be {record.image_hw} (height, width) as labelled, '
                f'got {pixels.shape[:2]}'
            )
        masks = [decode_mask(instance, record.image_hw) for instance in record.instances]
        scores = [instance.score for instance in record.instances]
        # The suffix stays in the name: a.png and a.jpg are two images.
        target = out / f'{record.name}.jpg'
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_instances(pixels, masks, scores)).save(target, quality=90)
        num_drawn += 1
    return num_drawn
