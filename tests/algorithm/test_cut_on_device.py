"""What torch cuts and refines is what the CPU does; here the device is the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.drawn import GRID_HW, features_of, photo, touching_world

from cuts3d_mm.algorithm import crf, cut_on_device
from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image, refine_cuts
from cuts3d_mm.algorithm.cut_on_device import DeviceCutter, second_eigenvectors
from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.algorithm.ncut import second_eigenvector
from cuts3d_mm.algorithm.params import CrfParams, CutParams, NcutParams

CPU = torch.device('cpu')
IMAGE_HW = (90, 130)


def world(rng, params):
    """Two discs that touch, on noise that differs from image to image, ready to be cut."""
    features, depth, *_ = touching_world(rng)
    image = link_image(features, depth, params)
    return replace(image, resized=photo(rng, IMAGE_HW), image_hw=(60, 88))


def overlaps(found, wanted):
    assert [len(one.instances) for one in found] == [len(one.instances) for one in wanted]
    pairs = zip(found, wanted, strict=True)
    return [
        mask_iou(ours.mask, theirs.mask)
        for one, other in pairs
        for ours, theirs in zip(one.instances, other.instances, strict=True)
    ]


def test_a_hundred_masks_are_those_of_the_cpu_and_a_second_time_the_same_bits(rng):
    params = CutParams()
    images = [world(rng, params) for _ in range(60)]
    cutter = DeviceCutter(params, CPU)
    batches = [images[start : start + 16] for start in range(0, 60, 16)]
    pending = [cutter.start(lambda batch=batch: batch) for batch in batches]
    cut = [image for batch in pending for image in batch.result()]
    on_grid = [cut_patches(image, params) for image in images]
    equal = [
        np.array_equal(ours.patches, theirs.patches)
        and ours.eigenvalue == pytest.approx(theirs.eigenvalue, abs=1e-9)
        for one, other in zip(cut, on_grid, strict=True)
        for ours, theirs in zip(one.instances, other.instances, strict=True)
    ]
    assert len(equal) >= 100 and all(equal)
    found = overlaps(
        [refine_cuts(one, params) for one in cut], [refine_cuts(one, params) for one in on_grid]
    )
    assert min(found) > 0.999
    again = cutter.start(lambda: images[:16]).result()
    assert all(
        np.array_equal(x.on_edges, y.on_edges) for x, y in zip(cut[:16], again, strict=True)
    )


@pytest.mark.parametrize('claimed', ['removed', 'epsilon'])
@pytest.mark.parametrize('share', [1, 0.6, 0.2])
def test_eigenvectors_of_several_graphs_are_those_of_each(rng, claimed, share):
    params = NcutParams(claimed=claimed)
    graphs = [
        link_image(touching_world(rng)[0], None, CutParams.maskcut()).links for _ in range(3)
    ]
    free = [rng.random(len(graphs[0])) < share for _ in graphs]
    for ours, links, is_free in zip(
        second_eigenvectors(graphs, free, params, CPU), graphs, free, strict=True
    ):
        links = links.among(is_free) if claimed == 'removed' else links
        theirs = second_eigenvector(links, is_free, params)
        assert ours.value == pytest.approx(theirs.value, abs=1e-9)
        np.testing.assert_allclose(ours.vector, theirs.vector, atol=1e-4)


def test_what_does_not_converge_is_solved_by_the_slower_solvers(rng, monkeypatch):
    links = link_image(touching_world(rng)[0], None, CutParams.maskcut()).links
    free = np.ones(len(links), bool)
    monkeypatch.setattr(cut_on_device, 'ritz_pair', lambda *_: None)
    (ours,) = second_eigenvectors([links], [free], NcutParams(), CPU)
    assert ours.value == second_eigenvector(links, free, NcutParams()).value


@pytest.mark.parametrize('image_hw', [(90, 130), (1, 1), (7, 200), (33, 5)])
@pytest.mark.parametrize('kind', ['photo', 'noise', 'one colour'])
def test_masks_of_images_of_any_shape_are_refined_as_by_the_cpu(rng, image_hw, kind):
    image = photo(rng, image_hw)
    if kind != 'photo':
        image = rng.integers(0, 256, image.shape, dtype=np.uint8) * (kind == 'noise')
    masks = rng.random((3, *image_hw)) < np.array([0.2, 0.5, 0])[:, None, None]
    masks[0, : image_hw[0] // 2] = True
    found = cut_on_device.refine_masks(masks, image, CrfParams(), CPU)
    wanted = crf.refine_masks(masks, image, CrfParams())
    assert found.shape == wanted.shape and (found != wanted).mean() < 1e-3


def test_images_without_structure_have_no_instances(rng):
    params = CutParams()
    flat = np.ones((*GRID_HW, 4), 'f4')
    images = [
        replace(link_image(features, np.ones(GRID_HW, 'f4'), params), resized=photo(rng, IMAGE_HW))
        for features in (flat, features_of(np.zeros(GRID_HW, int), rng))
    ]
    found = DeviceCutter(params, CPU).start(lambda: images).result()
    assert [one.on_edges for one in found if not one.instances][:1] == [None]
    assert not found[0].instances and all(one.links is None for one in found)


@pytest.mark.parametrize('kind', [torch.cuda, torch.backends.mps])
def test_a_gpu_of_the_machine_is_left_alone_by_a_cut_on_the_cpu(rng, monkeypatch, kind):
    def asked():
        raise AssertionError('the GPU must not be asked for')

    monkeypatch.setattr(kind, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', asked)
    image = world(rng, CutParams())
    assert DeviceCutter(CutParams(), CPU).start(lambda: [image]).result()[0].instances


def test_what_reads_no_images_raises_its_error_in_its_turn():
    def fail():
        raise MemoryError('out of memory')

    with pytest.raises(MemoryError):
        DeviceCutter(CutParams(), CPU).start(fail).result()


def test_a_recipe_with_the_sign_of_lapack_is_refused():
    params = replace(CutParams(), ncut=NcutParams(sign='lapack'))
    with pytest.raises(ValueError, match="must be 'strongest' to cut on a device"):
        DeviceCutter(params, CPU)
