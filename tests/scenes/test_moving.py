from __future__ import annotations

import numpy as np

from cuts3d_mm.scenes.moving import render_clip

HW = (60, 80)


def clip(seed, num_frames):
    return list(render_clip(np.random.default_rng(seed), num_frames, HW))


def test_the_same_generator_renders_the_same_clip():
    for one, other in zip(clip(3, 4), clip(3, 4), strict=True):
        assert (one.image == other.image).all() and (one.masks == other.masks).all()


def test_a_mask_is_of_the_same_object_in_every_frame():
    """It keeps its mean colour, and moves by little from frame to frame."""
    frames = clip(3, 40)
    assert len({len(scene.masks) for scene in frames}) == 1
    for index in range(len(frames[0].masks)):
        seen = [scene for scene in frames if scene.masks[index].sum() >= 60]
        colors = [scene.image[scene.masks[index]].mean(axis=0) for scene in seen]
        assert np.ptp(colors, axis=0).max() < 60


def test_masks_of_a_frame_do_not_overlap_and_some_object_is_hidden_at_times():
    frames = clip(3, 20)
    areas = np.array([[mask.sum() for mask in scene.masks] for scene in frames])
    assert all(scene.masks.sum(axis=0).max() <= 1 for scene in frames)
    assert (areas.min(axis=0) < 0.5 * areas.max(axis=0)).any()
