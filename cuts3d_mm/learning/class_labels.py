"""Read annotations with classes, and keep those of some images."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from cuts3d_mm.labels.ground_truth import read_ground_truth

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


def of_images(truth: Truth, names: Collection[str]) -> Truth:
    """Keep the images of some names, in full or their last part, and call them by these names."""
    by_name = {PurePosixPath(name).name: name for name in names} | {name: name for name in names}
    images = [
        {**image, 'file_name': by_name[image['file_name']]}
        for image in truth['images']
        if image['file_name'] in by_name
    ]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    return {**truth, 'images': images, 'annotations': annotations}


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
