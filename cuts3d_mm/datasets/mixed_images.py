"""Mix images for copy-paste without copying every sample several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import MultiImageMixDataset

from cuts3d_mm.registry import DATASETS


@DATASETS.register_module()
class MixedImagesDataset(MultiImageMixDataset):
    """MMDetection's `MultiImageMixDataset`, less its deep copies of samples.

    That one copies each sample before every transform. Here the transforms get the samples
    themselves, which `dataset` must make afresh for each call, as all that read files do. A
    transform that returns None begins the sample again.

    Args:
        dataset (dict): Of the images, with the pipeline that loads them.
        pipeline (list[dict]): Transforms of the loaded images; those with `get_indexes` choose
            others to mix in.
        skip_type_keys (list[str], optional): Transforms to skip. Defaults to None.
        max_refetch (int): Attempts until a sample is given up. Defaults to 15.
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
