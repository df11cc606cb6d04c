"""Divide a few labels with classes into those to train on and those to test on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cuts3d_mm.learning.class_labels import (
    Truth,
    annotated,
    name_as,
    names_in,
    of_images,
    read_class_labels,
    require_images,
    with_classes_of,
)
from cuts3d_mm.learning.selection import held_out_names


def divide_labels(
    few: Path, annotations: Path | None, names: Sequence[str]
) -> tuple[Truth, Truth]:
    """Divide into labels to train on, and truth of other images to test on, by the same classes.

    Args:
        few: COCO JSON of the few labels.
        annotations: COCO JSON to test on, or None. Where it has no object of these classes in
            other images, a tenth of the annotated images of `few` is tested on.
        names: of the images of the run.

    Raises:
        ValueError: the labels are not as they must be, or one side would have no object.
    """
    labelled = read_class_labels(few)
    known = name_as(labelled, names, few)
    require_images(few, labelled, known)
    labels = of_images(known, annotated(known))
    if annotations is not None and annotated(labels):
        others = set(names) - set(names_in(known))
        test = of_images(_read_test(annotations, labels, names), others)
        if annotated(test):
            return labels, test
    objects = names_in(labels)
    if len(objects) < 2:
        raise ValueError(
            'labels must have objects in two images of IMAGES at least, one to train on and one '
            f'to test on, {few} has them in {len(objects)}; label more images, or give '
            '--annotations with the same classes in other images'
        )
    tested = set(held_out_names(objects))
    return of_images(labels, set(objects) - tested), of_images(labels, tested)


def _read_test(annotations: Path, labels: Truth, names: Sequence[str]) -> Truth:
    truth: Truth = {**labels, 'images': [], 'annotations': []}
    with suppress(ValueError):  # annotations without classes say nothing of them
        truth = read_class_labels(annotations)
    return with_classes_of(name_as(truth, names, annotations), labels)
