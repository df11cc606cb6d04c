"""Read annotations with classes, and keep those of some images."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.learning.image_names import match_names

_SHOWN = 3  # names in a message

Truth = dict[str, Any]


def read_class_labels(path: Path) -> Truth:
    """Read a COCO JSON with its classes; each entry is checked.

    Args:
        path: the file; every annotation has a mask and the id of a class.

    Raises:
        ValueError: the file is none; the message names the entry that is not as it must be.
    """
    truth = read_ground_truth(path, needs_masks=True, needs_names=True)
    content = json.loads(path.read_text(encoding='utf-8'))
    classes = _classes(path, content.get('categories'))
    of_annotation = {one['id']: one.get('category_id') for one in content['annotations']}
    for one in truth['annotations']:
        one['category_id'] = of_annotation[one['id']]
        one['segmentation'] = _as_text(one['segmentation'])
        if one['category_id'] not in {known['id'] for known in classes}:
            raise ValueError(
                f'{path}: annotation {one["id"]}.category_id must be the id of a category, got '
                f'{one["category_id"]}'
            )
    return {**truth, 'categories': classes}


def name_as(truth: Truth, names: Collection[str], path: Path) -> Truth:
    """Keep the images of a run, and call them by the names that they have there.

    Args:
        truth: annotations; images may be named by their last part where that is unique.
        names: of the images of the run.
        path: of the annotations, for messages.

    Raises:
        ValueError: it is not clear which image a name means.
    """
    found = match_names([image['file_name'] for image in truth['images']], names, path)
    images = [
        {**image, 'file_name': found.get(image['file_name'], image['file_name'])}
        for image in truth['images']
    ]
    return of_images({**truth, 'images': images}, set(found.values()))


def of_images(truth: Truth, names: Collection[str]) -> Truth:
    """Keep the images of some names."""
    images = [image for image in truth['images'] if image['file_name'] in names]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    return {**truth, 'images': images, 'annotations': annotations}


def annotated(truth: Truth) -> set[str]:
    """Names of the images with an object; a crowd is none."""
    ids = {one['image_id'] for one in truth['annotations'] if not one.get('iscrowd')}
    return {image['file_name'] for image in truth['images'] if image['id'] in ids}


def with_classes_of(truth: Truth, other: Truth) -> Truth:
    """Give classes the ids that they have in another truth, by name; others are left out."""
    ids = {one['name']: one['id'] for one in other['categories']}
    new = {one['id']: ids[one['name']] for one in truth['categories'] if one['name'] in ids}
    annotations = [
        {**one, 'category_id': new[one['category_id']]}
        for one in truth['annotations']
        if one['category_id'] in new
    ]
    return {**truth, 'annotations': annotations, 'categories': other['categories']}


def names_in(truth: Truth) -> list[str]:
    """Names of the images, sorted."""
    return sorted(image['file_name'] for image in truth['images'])


def require_images(path: Path, labelled: Truth, known: Truth) -> None:
    """Check that all labelled images are among those of the run.

    Raises:
        ValueError: some are not; the message names up to three.
    """
    missing = len(labelled['images']) - len(known['images'])
    if missing or not known['annotations']:
        ids = {image['id'] for image in known['images']}
        gone = [image['file_name'] for image in labelled['images'] if image['id'] not in ids]
        named = f', such as {", ".join(sorted(gone)[:_SHOWN])}' if gone else ''
        raise ValueError(
            f'--labels must annotate images of IMAGES; in {path} {missing} of '
            f'{len(labelled["images"])} are not there{named}, and '
            f'{len(known["annotations"])} annotations are left'
        )


def _as_text(segmentation: Any) -> Any:
    """Run lengths as JSON has them; polygons as they are."""
    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], bytes):
        return {**segmentation, 'counts': segmentation['counts'].decode('ascii')}
    return segmentation


def _classes(path: Path, categories: Any) -> list[dict[str, Any]]:
    is_list = isinstance(categories, list) and categories
    if not is_list or not all(
        isinstance(one, dict) and type(one.get('id')) is int and isinstance(one.get('name'), str)
        for one in categories
    ):
        raise ValueError(
            f'{path}: categories must be a list of classes, each with an id and a name'
        )
    return [{'id': one['id'], 'name': one['name']} for one in categories]
