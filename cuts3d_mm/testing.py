"""Check that a feature source, a depth source or a labeller is what the package relies on.

    >>> from cuts3d_mm.testing import check_feature_source
    >>> check_feature_source(MySource())

Each function raises an AssertionError that says what must hold and what was got.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.params import Similarity
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.depth.files import require_orientation
from cuts3d_mm.labels.record import encode_instance

_SIMILARITIES = get_args(Similarity)
Values = NDArray[Any]


def check_feature_source(
    source: Any,
    device: str = 'cpu',
    image_hw: tuple[int, int] = (96, 144),
    tolerance: float = 1e-4,
) -> None:
    """Check a feature source: shapes, numbers, batches, device, determinism, pickling.

    Args:
        source: what a config names as `features`.
        device: device to try.
        image_hw: size of the images to try, in pixels; not square.
        tolerance: largest difference between an image alone and in a batch, as a share of the
            largest feature. In bfloat16 it is about 0.02.
    """
    similarity = getattr(source, 'similarity', 'cosine')
    _require(
        similarity in _SIMILARITIES, f'similarity must be one of {_SIMILARITIES}', repr(similarity)
    )
    images = [_draw(image_hw, seed) for seed in range(3)]
    found = _check_calls(source, images, device, tolerance)
    height, width = image_hw
    for grid in found:
        _require(grid.ndim == 3, 'features must be (h, w, C)', grid.shape)
        off = abs(grid.shape[0] * width - grid.shape[1] * height)  # 0: patches are square
        _require(off <= max(image_hw), f'grid must be that of {height} x {width} px', grid.shape)
    shapes = {grid.shape for grid in found}
    _require(len(shapes) == 1, 'images of one size must have features of one shape', shapes)
    differs = not np.allclose(found[0], found[1])
    _require(differs, 'features must depend on the image', 'the same for two images')


def check_depth_source(
    source: Any,
    device: str = 'cpu',
    images: Sequence[NamedImage] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Check a depth source: shapes, numbers, batches, device, determinism, pickling.

    Whether larger is farther cannot be checked on drawn images: look at `cuts3d explain`.

    Args:
        source: what a config names as `depth`.
        device: device to try.
        images: images whose names the source knows; None: drawn ones, of two sizes.
        tolerance: largest difference between an image alone and in a batch, as a share of the
            largest depth.
    """
    images = _drawn_images(((60, 88), (88, 60), (60, 88))) if images is None else list(images)
    found = _check_calls(source, images, device, tolerance)
    for depth, image in zip(found, images, strict=True):
        _require(depth.ndim == 2 and depth.size > 0, 'depth must be (h, w)', depth.shape)
        try:
            require_orientation(depth.shape, image.pixels.shape[:2])
        except ValueError as error:
            raise AssertionError(str(error)) from error


def check_labeller(
    labeller: Any,
    device: str = 'cpu',
    images: Sequence[NamedImage] | None = None,
    exact: bool = False,
) -> None:
    """Check what labels images: masks, scores, batches, stages, determinism, pickling.

    Args:
        labeller: generator, detector, or what a config names as `model`.
        device: device to try.
        images: images to label; None: drawn ones, of three sizes.
        exact: whether an image alone must have the same masks to the pixel as in a batch. A
            network may differ in the last bit, which can move the border of a mask.
    """
    images = _drawn_images(((60, 88), (88, 60), (5, 120))) if images is None else list(images)
    _check_device(labeller, device)
    before = [image.pixels.copy() for image in images]
    found = [list(instances) for instances in labeller.predict_batch(images)]
    is_same = _same_bytes(before, [image.pixels for image in images])
    _require(is_same, 'images must stay as they are', 'changed pixels')
    _require(
        len(found) == len(images), f'{len(images)} images must have as many lists', len(found)
    )
    for image, instances in zip(images, found, strict=True):
        for instance in instances:
            _check_instance(instance, image.pixels.shape[:2])
    facts, again = _facts(found), labeller.predict_batch(images)
    _require(facts == _facts(again), 'labels must be the same on every run', 'others')
    alone = [labeller.predict_batch([image])[0] for image in images]
    is_same = not exact or facts == _facts(alone)
    _require(is_same, 'an image alone must have the labels of a batch', 'others')
    counts = [[len(one) for one in side] for side in (found, alone)]
    _require(counts[0] == counts[1], f'an image alone must have {counts[0]} instances', counts[1])
    # What goes to another process: the result of the networks, and the stages that follow.
    results, stages = pickle.loads(
        pickle.dumps((list(labeller.extract(images)), list(labeller.stages)))
    )
    for stage in stages:
        results = [stage.run(result) for result in results]
    _require(facts == _facts(results), 'extract and stages must give what predict_batch does', '')
    _require_refused(labeller, NamedImage('x', np.zeros((4, 5), np.uint8)))


def _check_calls(
    source: Any, images: Sequence[Any], device: str, tolerance: float
) -> list[Values]:
    """Call a source in several ways, and return what it gives for a batch."""
    _check_device(source, device)
    pixels = [getattr(image, 'pixels', image) for image in images]
    before = [one.copy() for one in pixels]
    found = _call(source, images)
    _require(_same_bytes(before, pixels), 'images must stay as they are', 'changed pixels')
    _require(len(found) == len(images), f'{len(images)} images must have as many', len(found))
    for values in found:
        _require(values.dtype == np.float32, 'values must be float32', values.dtype)
        _require(bool(np.isfinite(values).all()), 'values must be finite', 'NaN or inf')
    same = _same_bytes(found, _call(source, images))
    _require(same, 'a source must give the same on every run', 'other values')
    copy = pickle.loads(pickle.dumps(source))
    _require(_same_bytes(found, _call(copy, images)), 'a copy must give the same', 'other values')
    for others, order in ((_call(source, images[::-1])[::-1], 'in another order'),
                          ([_call(source, [one])[0] for one in images], 'alone')):  # fmt: skip
        for values, other in zip(found, others, strict=True):
            _require(
                values.shape == other.shape, f'an image {order} must be the same', other.shape
            )
            limit = tolerance * float(np.abs(values).max(initial=1e-6))
            off = float(np.abs(values - other).max(initial=0))
            _require(off <= limit, f'an image {order} must differ by {limit:.2g} at most', off)
    return found


def _call(source: Callable[[Any], Iterable[Any]], images: Sequence[Any]) -> list[Values]:
    found = source(list(images))
    return [np.asarray(one.cpu() if hasattr(one, 'cpu') else one) for one in found]


def _check_device(part: Any, device: str) -> None:
    _require(callable(getattr(part, 'to', None)), 'to(device) must be there', type(part).__name__)
    part.to(device)


def _check_instance(instance: Any, image_hw: tuple[int, ...]) -> None:
    mask, score, confidence = instance.mask, instance.score, instance.confidence
    _require(mask.dtype == bool, 'masks must be bool', mask.dtype)
    _require(mask.shape == image_hw, f'masks must have the size {image_hw}', mask.shape)
    _require(bool(mask.any()), 'masks must have a pixel', 'none')
    _require(0 <= score <= 1, 'scores must lie in [0, 1]', score)
    if confidence is not None:
        _require(confidence.ndim == 2, 'confidence must be None or (h, w)', confidence.shape)
        is_share = bool((confidence >= 0).all() and (confidence <= 1).all())
        _require(is_share, 'confidence must lie in [0, 1]', (confidence.min(), confidence.max()))
    encode_instance(mask, confidence, score)


def _require_refused(labeller: Any, image: NamedImage) -> None:
    try:
        labeller.predict_batch([image])
    except ValueError:
        return
    _require(False, 'an image that is not (H, W, 3) uint8 must raise ValueError', 'no error')


def _facts(found: Iterable[Iterable[Any]]) -> list[list[tuple[bytes, float]]]:
    return [[(one.mask.tobytes(), one.score) for one in instances] for instances in found]


def _same_bytes(first: Sequence[Values], second: Sequence[Values]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def _require(holds: bool, what: str, got: object) -> None:
    if not holds:
        raise AssertionError(f'{what}, got {got}' if got != '' else what)


def _drawn_images(sizes: Iterable[tuple[int, int]]) -> list[NamedImage]:
    return [NamedImage(f'{n}.png', _draw(size, n)) for n, size in enumerate(sizes)]


def _draw(image_hw: tuple[int, int], seed: int) -> Pixels:
    """Draw an image with a bright and a dark disc on a noisy slope."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(image_hw)
    values = rows / image_hw[0] + columns / image_hw[1]
    image = 60 + 50 * np.stack([values, 1 - values / 2, rows / image_hw[0]], axis=-1)
    for share, color in ((0.3, (220, 60, 40)), (0.7, (20, 40, 120))):
        off = np.hypot(rows - image_hw[0] / 2, columns - share * image_hw[1])
        image[off < 0.25 * min(image_hw) + seed] = color
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
