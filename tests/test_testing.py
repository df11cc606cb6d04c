"""Each rule of the conformance checks is broken by a source, and said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.depth.files import DepthFromFile
from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.testing import check_depth_source, check_feature_source, check_labeller


class Source:
    """Mean colours of 8 px patches, and what `change` makes of them."""

    def __init__(self, change=np.asarray):
        self.change = change

    def to(self, device):
        return self

    def __call__(self, images):
        return [self.describe(getattr(image, 'pixels', image)) for image in images]

    def describe(self, pixels):
        height, width = (side // 8 for side in pixels.shape[:2])
        patches = pixels[: 8 * height, : 8 * width].reshape(height, 8, width, 8, 3)
        return self.change(patches.mean(axis=(1, 3)).astype(np.float32))


brightness = partial(np.mean, axis=2)  # as depth


def swapped(features):
    return np.ascontiguousarray(features.swapaxes(0, 1))


def turned_brightness(features):
    return swapped(brightness(features))


def randomly(features):
    return features + np.random.random()


class Centred(Source):
    """Takes the mean of its batch away."""

    def __call__(self, images):
        found = super().__call__(images)
        return [one - np.mean(found, dtype=np.float32) for one in found]


class Painting(Source):
    def describe(self, pixels):
        pixels[0] = 0
        return super().describe(pixels)


class Short(Source):
    def __call__(self, images):
        return super().__call__(images)[:1]


class Homeless(Source):
    to = None


class Odd(Source):
    similarity = 'cosinus'


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        (Source(swapped), 'grid must be that of 96 x 144 px'),
        (Source(np.float64), 'values must be float32, got float64'),
        (Source(partial(np.multiply, np.float32(np.nan))), 'values must be finite'),
        (Source(randomly), 'must give the same on every run'),
        (Centred(), 'an image alone must differ by'),
        (Painting(), 'images must stay as they are'),
        (Source(np.ones_like), 'features must depend on the image'),
        (Short(), '3 images must have as many, got 1'),
        (Homeless(), r'to\(device\) must be there'),
        (Odd(), "similarity must be one of .*, got 'cosinus'"),
        (Source(brightness), r'features must be \(h, w, C\)'),
    ],
)
def test_a_feature_source_that_breaks_a_rule_is_named(source, message):
    with pytest.raises(AssertionError, match=message):
        check_feature_source(source)


def test_sources_that_keep_the_rules_pass():
    check_feature_source(Source())
    check_depth_source(Source(brightness))
    with pytest.raises((AttributeError, TypeError), match=r"[Cc]an't (pickle|get local object)"):
        check_feature_source(Source(lambda features: features))


def test_depth_of_another_orientation_or_with_colours_is_named():
    with pytest.raises(AssertionError, match=r'depth must be \(h, w\)'):
        check_depth_source(Source())
    with pytest.raises(AssertionError, match='depth'):
        check_depth_source(Source(turned_brightness))


def test_depth_from_files_is_a_depth_source(tmp_path, rng):
    images = []
    for number, hw in enumerate([(30, 44), (44, 30)]):
        np.save(tmp_path / f'{number}.npy', rng.random(hw, np.float32) + 1)
        pixels = rng.integers(0, 256, (2 * hw[0], 2 * hw[1], 3), np.uint8)
        images.append(NamedImage(f'{number}.jpg', pixels))
    check_depth_source(DepthFromFile(str(tmp_path)), images=images)


@dataclass(frozen=True)
class Found:
    mask: np.ndarray
    score: float = 0.5
    confidence: np.ndarray | None = None


def unpack(found):
    return found


class Labeller:
    """Finds the left half of each image; `change` makes of it what a test wants."""

    stages = (Stage('unpack', unpack),)

    def __init__(self, **changes):
        self.changes = changes

    def to(self, device):
        return self

    def extract(self, images):
        return self.predict_batch(images)

    def predict_batch(self, images):
        if any(image.pixels.ndim != 3 for image in images):
            raise ValueError('image must be RGB')
        found = []
        for image in images:
            mask = np.zeros(image.pixels.shape[:2], bool)
            mask[:, : 1 + mask.shape[1] // 2] = True
            found.append([replace(Found(mask), **self.changes)])
        return found


class Greedy(Labeller):
    def predict_batch(self, images):
        return [one * len(images) for one in super().predict_batch(images)]


class Tolerant(Labeller):
    def predict_batch(self, images):
        return super().predict_batch([image for image in images if image.pixels.ndim == 3])


class Staged(Labeller):
    def extract(self, images):
        return [[] for _ in images]


@pytest.mark.parametrize(
    ('labeller', 'message'),
    [
        (Labeller(mask=np.ones((60, 88))), 'masks must be bool'),
        (Labeller(mask=np.ones((60, 88), bool)), r'masks must have the size \(88, 60\)'),
        (Labeller(score=1.5), r'scores must lie in \[0, 1\], got 1.5'),
        (Labeller(confidence=np.full((3, 4), 2.0)), r'confidence must lie in \[0, 1\]'),
        (Labeller(confidence=np.zeros(3)), r'confidence must be None or \(h, w\)'),
        (Greedy(), 'an image alone must have'),
        (Tolerant(), 'must raise ValueError'),
        (Staged(), 'extract and stages must give what predict_batch does'),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_labeller_that_breaks_a_rule_is_named(labeller, message):
    check_labeller(Labeller(), exact=True)
    with pytest.raises(AssertionError, match=message):
        check_labeller(labeller)
