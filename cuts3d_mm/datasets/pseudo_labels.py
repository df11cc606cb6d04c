"""Pseudo-labels and class-agnostic COCO files as data sets of MMDetection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import BaseDetDataset, CocoDataset, MultiImageMixDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.logging import print_log

from cuts3d_mm.files.paths import require_inside
from cuts3d_mm.images.reading import UNREADABLE, ImageFailure, most_unreadable, read_image
from cuts3d_mm.labels.coco_json import DATASET_META, read_ground_truth
from cuts3d_mm.labels.left_out import Crowd
from cuts3d_mm.labels.merging import LabelSelection
from cuts3d_mm.labels.record import ImageRecord, InstanceRecord
from cuts3d_mm.labels.table import LabelTable, SelectedRecords
from cuts3d_mm.registry import DATASETS

from .samplers import SeededIndex


class ReadableImages(BaseDetDataset):
    """Base of the data sets: images are read as `cuts3d generate` reads them.

    This holds for `LoadImageFromFile` with `color_type='color_ignore_orientation'`, the stored
    pixels. Random transforms are seeded as `SeededInfiniteSampler` says. An image that cannot be
    read is named in the log, and another image is trained on instead. A validation with
    `failures` gets a black image for it; in other tests it is an error.

    Args:
        max_failures (float): Share of the images, in [0, 1], that may be unreadable; one image
            always may. Defaults to 0.01, as for `cuts3d generate`.
        failures (str, optional): Text file that unreadable images are named in. `cuts3d train`
            sets it to `unreadable_images.txt` of the work dir. Defaults to None.

    All other arguments are those of the data set.
    """

    def __init__(
        self,
        *args: Any,
        max_failures: float = UNREADABLE,
        failures: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.max_failures = max_failures
        self.failures = failures
        self._failed: set[str] = set()  # paths, in this process
        super().__init__(*args, **kwargs)
        steps = self.pipeline.transforms
        for place, step in enumerate(steps):
            if _reads_stored(step):
                dtype = np.float32 if step.to_float32 else np.uint8
                steps[place] = partial(_load_stored, dtype=dtype)

    def prepare_data(self, idx: int) -> Any:
        """Make a sample; None where its image cannot be read, so that another one is made.

        Raises:
            ValueError: more images than `max_failures` allows cannot be read.
            ImageFailure: the image cannot be read, in a test whose scores it would change.
        """
        if isinstance(idx, SeededIndex):
            idx.seed_generators()
        info = self.get_data_info(idx)
        try:
            return self.pipeline(info)
        except ImageFailure as failure:
            if self.test_mode and self.failures is None:
                raise ImageFailure(f'{info["img_path"]}: {failure}') from failure
            self._note(info['img_path'], failure)
        if not self.test_mode:
            return None
        info['img'] = np.zeros((info['height'], info['width'], 3), np.uint8)
        return self.pipeline(info)

    def _note(self, path: str, failure: ImageFailure) -> None:
        if path in self._failed:
            return
        self._failed.add(path)
        print_log(f'left out: {path}: {failure}', 'current', logging.WARNING)
        if self.failures is not None:
            with open(self.failures, 'a+', encoding='utf-8', errors='backslashreplace') as file:
                file.seek(0)
                if not any(line.startswith(f'{path}: ') for line in file):  # by another process
                    file.write(f'{path}: {failure}\n')
        most = most_unreadable(len(self), self.max_failures)
        if len(self._failed) > most:
            raise ValueError(
                f'at most {most} of {len(self)} images may be unreadable, {len(self._failed)} '
                f'are, the last with "{failure}": {path}; look at the disk, or set a larger '
                'max_failures of the data set'
            )


def _load_stored(results: dict[str, Any], dtype: type) -> dict[str, Any]:
    """Read an image as it is stored, unless its pixels are there, in place of a stock step."""
    if 'img' not in results:
        image = read_image(Path(results['img_path']))
        results['img'] = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    results['img'] = results['img'].astype(dtype, copy=False)
    results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
    return results


def _reads_stored(step: Any) -> bool:
    return (
        type(step) is LoadImageFromFile
        and step.color_type == 'color_ignore_orientation'
        and not (step.backend_args or step.file_client_args)
    )


@DATASETS.register_module()
class PseudoLabelDataset(ReadableImages):
    """Pseudo-labels of one class, `object`, with their confidence.

    The labels of an image are read when the image is used, so that a data set of any size takes
    almost no memory. The files of CutLER and CuVLER swap width and height: this is corrected, with
    a warning.

    Args:
        ann_file (str): Folder of a label store, or a COCO JSON.
        data_prefix (dict): `img` is the folder that the image names are relative to.
        filter_cfg (dict, optional): `select` chooses the labels to train on: `none` takes all,
            `0.5` those with at least that score, `50%` the half with the best scores; the others
            are marked as ignored, see `PseudoLabelAssigner`. `filter_empty_gt` leaves out images
            without an instance that is chosen; `min_size` leaves out images with a shorter side,
            in pixels. Images that could not be labelled are always left out. In test mode nothing
            else is. Defaults to None.
        crowd (str): Whether regions of a COCO JSON that are marked `iscrowd` are left out
            (`ignore`) or are objects (`objects`). Defaults to `ignore`.

    All other arguments are those of `ReadableImages` and `mmdet.BaseDetDataset`.

    Raises:
        ValueError: the pipeline would drop every mask, as `LoadAnnotations(poly2mask=False)`.
    """

    METAINFO: ClassVar[dict[str, Any]] = DATASET_META

    def __init__(self, *args: Any, crowd: Crowd = 'ignore', **kwargs: Any) -> None:
        self.crowd = crowd
        # The records are in a file that is mapped into memory, not in Python objects.
        kwargs['serialize_data'] = False
        super().__init__(*args, **kwargs)
        _require_bitmaps(self.pipeline)

    def load_data_list(self) -> SelectedRecords:
        """Open the labels.

        Raises:
            ValueError: `ann_file` is no label file, or `classes` does not name one class.
        """
        classes = self.metainfo['classes']
        if not isinstance(classes, (tuple, list)) or len(classes) != 1:
            raise ValueError(
                f"metainfo must be dict(classes=('object',)), a tuple of one name with a comma, "
                f'got classes={classes!r}'
            )
        table = LabelTable(Path(self.ann_file), self.crowd)
        return SelectedRecords(table, np.flatnonzero(~table.is_failure))

    def filter_data(self) -> SelectedRecords:
        """Leave out the images that `filter_cfg` describes; keep all in test mode."""
        records: SelectedRecords = self.data_list
        self.smallest_score = 0.0  # labels below it are not trained on
        if self.test_mode or not self.filter_cfg:
            return records
        table, kept = records.table, records.indices
        counts = table.num_instances.astype(np.int64)
        selection = LabelSelection.parse(self.filter_cfg.get('select', 'none'))
        if selection != LabelSelection():
            owners, scores = table.scores()
            self.smallest_score = selection.threshold(scores)
            counts = np.bincount(owners[scores >= self.smallest_score], minlength=len(table))
        if self.filter_cfg.get('filter_empty_gt', False):
            kept = kept[counts[kept] > 0]
        kept = kept[table.image_hw[kept].min(axis=1) >= self.filter_cfg.get('min_size', 0)]
        return SelectedRecords(table, kept)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Read the labels of an image in MMDetection's form."""
        if not self._fully_initialized:
            self.full_init()
        record: ImageRecord = self.data_list[idx]
        height, width = record.image_hw
        return {
            'img_id': int(self.data_list.indices[idx]),
            'img_path': str(Path(self.data_prefix.get('img', '')) / require_inside(record.name)),
            'height': height,
            'width': width,
            'instances': [self._instance_info(one, record.image_hw) for one in record.instances],
            'sample_idx': idx if idx >= 0 else len(self) + idx,
        }

    def _instance_info(self, one: InstanceRecord, image_hw: tuple[int, int]) -> dict[str, Any]:
        left, top, width, height = one.box_xywh
        return {
            'bbox': [left, top, left + width, top + height],
            'bbox_label': 0,
            'ignore_flag': int(one.score < self.smallest_score),
            'mask': {'size': list(image_hw), 'counts': one.rle.decode('ascii')},
            'score': one.score,
            'confidence': one.confidence,
        }

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> SelectedRecords:
        chosen: Any = np.asarray(indices)
        if isinstance(indices, int):
            chosen = slice(indices) if indices >= 0 else slice(indices, None)
        return self.data_list[chosen]


def _require_bitmaps(pipeline: Any) -> None:
    """Refuse a pipeline that marks every run-length mask, and its box, as to be ignored."""
    waiting = [pipeline]
    while waiting:
        transform = waiting.pop()
        if isinstance(transform, (list, tuple)):
            waiting += transform
            continue
        waiting += getattr(transform, 'transforms', ())
        is_loader = isinstance(transform, LoadAnnotations)
        if is_loader and transform.with_mask and not transform.poly2mask:
            raise ValueError(
                'the masks of pseudo-labels need poly2mask=True, got '
                f'{type(transform).__name__}(with_mask=True, poly2mask=False), which drops all '
                "objects; use poly2mask=True or dict(type='cuts3d_mm.LoadPseudoLabels')"
            )


class ClassAgnosticCOCO(COCO):
    """A COCO index in which every annotation has the category `object`; entries are checked."""

    def __init__(self, annotation_file: str, needs_masks: bool = False) -> None:
        super().__init__()
        self.dataset = read_ground_truth(Path(annotation_file), needs_masks)
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


@DATASETS.register_module()
class ClassAgnosticCocoDataset(ReadableImages, CocoDataset):
    """`mmdet.CocoDataset` of one class, `object`; crowd regions stay ignored."""

    METAINFO: ClassVar[dict[str, Any]] = DATASET_META
    COCOAPI = ClassAgnosticCOCO


@DATASETS.register_module()
class SeededCocoDataset(ReadableImages, CocoDataset):
    """`mmdet.CocoDataset` of any classes, with the images and seeds of `ReadableImages`."""


@DATASETS.register_module()
class MixedImagesDataset(MultiImageMixDataset):
    """`mmdet.MultiImageMixDataset` without its deep copies of samples.

    The stock class copies each sample before every transform. Here the transforms get the
    sample itself, so `dataset` must make a new sample in each call, as every data set that
    reads files does. Where a transform returns None, the sample is made again.

    Args:
        dataset (dict): Data set of the images, with the pipeline that loads them.
        pipeline (list[dict]): Transforms of the loaded images; a transform with `get_indexes`
            chooses other images to mix in.
        skip_type_keys (list[str], optional): Types of the transforms to skip. Defaults to None.
        max_refetch (int): Number of attempts to make a sample. Defaults to 15.
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        for _ in range(self.max_refetch):
            results = self._mix(index)
            if results is not None:
                return results
        raise RuntimeError(
            f'the pipeline must make a sample of image {index} within {self.max_refetch} '
            'attempts, it returns None; look for what filters all of its instances'
        )

    def _mix(self, index: int) -> dict[str, Any] | None:
        results: dict[str, Any] | None = self.dataset[index]
        for transform, kind in zip(self.pipeline, self.pipeline_types, strict=True):
            if results is None:
                return None
            if kind in (self._skip_type_keys or ()):
                continue
            if hasattr(transform, 'get_indexes'):
                results['mix_results'] = self._others(transform)
            results = transform(results)
            if results is not None:
                results.pop('mix_results', None)
        return results

    def _others(self, transform: Any) -> list[dict[str, Any]]:
        for _ in range(self.max_refetch):
            chosen = transform.get_indexes(self.dataset)
            indexes = chosen if isinstance(chosen, Sequence) else [chosen]
            others = [self.dataset[index] for index in indexes]
            if all(other is not None for other in others):
                return others
        raise RuntimeError('the data set must load images to mix in, it returns None')
