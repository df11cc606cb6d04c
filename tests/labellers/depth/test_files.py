from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.drawn import iou
from helpers.hostile_files import hostile_depth_maps, write_hostile_depth
from helpers.tiny_networks import (
    depth_anything,
    dpt,
    dpt_beit,
    dpt_hybrid,
    marigold,
    transformers,
    zoe,
)
from PIL import Image

from cuts3d_mm.images.reading import ImageFailure, NamedImage
from cuts3d_mm.labellers.depth import files
from cuts3d_mm.labellers.depth.files import DepthFromFile, sentinels
from cuts3d_mm.labellers.depth.huggingface import HFDepth, MarigoldDepth, to_depth

DEPTH = np.array([[1, 2, 3], [4, 5, 200]], np.float32)


def read(folder, name='a/x.jpg', **options):
    image = NamedImage(name, np.zeros((8, 9, 3), np.uint8))
    return DepthFromFile(str(folder), **options)([image])[0]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'a').mkdir()
    return tmp_path


def read_array(folder, values, **options):
    np.save(folder / 'a/x.npy', values)
    return read(folder, **options)


@pytest.mark.parametrize('suffix', ['png8', 'png16', 'npy', 'npy64', 'npz', 'pfm'])
def test_every_format_gives_the_values_back(folder, suffix):
    path = folder / 'a/x'
    if suffix.startswith('png'):
        dtype = np.uint8 if suffix == 'png8' else np.uint16
        cv2.imwrite(f'{path}.png', DEPTH.astype(dtype))
    elif suffix.startswith('npy'):
        np.save(f'{path}.npy', DEPTH if suffix == 'npy' else DEPTH.astype(np.float64)[None])
    elif suffix == 'npz':
        np.savez(f'{path}.npz', depth=DEPTH)
    else:
        cv2.imwrite(f'{path}.pfm', DEPTH)
    found = read(folder)
    assert found.dtype == np.float32 and (found == DEPTH).all()


def test_disparity_becomes_depth_by_the_rule_of_networks(folder):
    assert (read_array(folder, DEPTH, larger_is='near') == to_depth(DEPTH, 'disparity')).all()


def test_a_disparity_of_almost_nothing_does_not_flatten_the_rest(folder):
    values = np.array([[1e-42, 0.0, 1, 2]], np.float32)
    (found,) = read_array(folder, values, larger_is='near', zero_is_invalid=False)
    assert found == pytest.approx([10, 10, 1 / 0.6, 1 / 1.1])


@pytest.mark.parametrize('invalid', [np.nan, np.inf, 0])
def test_invalid_pixels_take_the_nearest_valid_value(folder, invalid):
    depth = np.array([[5, invalid, 9, 9], [5, 5, 9, invalid]], np.float32)
    assert read_array(folder, depth).tolist() in (
        [[5, 5, 9, 9], [5, 5, 9, 9]],
        [[5, 9, 9, 9], [5, 5, 9, 9]],
    )


def test_zero_can_be_valid(folder):
    assert read_array(folder, [[0.0, 1]], zero_is_invalid=False).tolist() == [[0, 1]]


def test_negative_disparity_is_invalid(folder):
    near, same, far = read_array(folder, [[-1.0, 2, 4]], larger_is='near')[0][[2, 1, 0]]
    assert near < same == far


@pytest.mark.parametrize(
    'content',
    [b'', b'rubbish', b'PK\x03\x04 rubbish', b'\x93NUMPY rubbish'],
)
@pytest.mark.parametrize('suffix', ['png', 'npy', 'npz', 'pfm'])
def test_unreadable_maps_are_failures(folder, suffix, content):
    (folder / f'a/x.{suffix}').write_bytes(content)
    with pytest.raises(ImageFailure, match='cannot be read'):
        read(folder)


def test_pickled_arrays_are_not_opened(folder):
    np.save(folder / 'a/x.npy', np.array([[{'code': 1}]], object), allow_pickle=True)
    with pytest.raises(ImageFailure, match='cannot be read'):
        read(folder)


def test_missing_map_is_a_failure(folder):
    with pytest.raises(ImageFailure, match='no depth map'):
        read(folder)


@pytest.mark.parametrize('value', [np.nan, 0, np.inf])
def test_map_without_a_valid_pixel_is_a_failure(folder, value):
    with pytest.raises(ImageFailure, match='no valid pixel'):
        read_array(folder, np.full((3, 5), value))


def test_maps_are_read_as_tools_write_them(folder):
    grey, floats = np.repeat(DEPTH.astype(np.uint8)[..., None], 3, axis=2), DEPTH / 3
    writers = {
        'x.png': lambda path: Image.fromarray(grey).save(path),
        'x.PNG': lambda path: Image.fromarray(DEPTH.astype(np.uint16)).save(path, 'PNG'),
        'x.tif': lambda path: Image.fromarray(floats).save(path),
        'x.TIFF': lambda path: Image.fromarray(floats).save(path, 'TIFF'),
        'x.npz': lambda path: np.savez(path, depth_map=DEPTH, focal=np.ones(3), rgb=grey),
    }
    for name, write in writers.items():
        write(folder / 'a' / name)
        expected = floats if 'tif' in name.lower() else DEPTH
        assert (read(folder) == expected).all(), name
        (folder / 'a' / name).unlink()
    np.save(folder / 'a/x_depth.npy', DEPTH[None])
    assert (read(folder / '{}_depth.npy') == DEPTH).all()


def test_other_proportions_than_those_of_the_image_are_said_once(folder, caplog, monkeypatch):
    monkeypatch.setattr(files, '_said', set())
    np.save(folder / 'a/x.npy', np.arange(1.0, 65.0).reshape(4, 16))
    assert [read(folder).shape for _ in range(2)] == [(4, 16)] * 2
    assert caplog.text.count('its proportions, (height, width) (4, 16), are not those') == 1


def test_map_with_colours_is_a_failure(folder):
    cv2.imwrite(str(folder / 'a/x.png'), np.arange(45, dtype=np.uint8).reshape(3, 5, 3))
    with pytest.raises(ImageFailure, match=r'must be \(H, W\) numbers'):
        read(folder)


def test_names_with_dots_find_their_own_map(folder):
    np.save(folder / 'a/x.1.npy', DEPTH)
    np.save(folder / 'a/x.npy', DEPTH + 1)
    assert (read(folder, 'a/x.1.jpg') == DEPTH).all()


def test_same_name_in_two_folders_finds_two_maps(folder):
    (folder / 'b').mkdir()
    np.save(folder / 'a/x.npy', DEPTH)
    np.save(folder / 'b/x.npy', DEPTH + 1)
    assert (read(folder, 'b/x.jpg') == DEPTH + 1).all()


def test_a_missing_folder_is_an_error_of_the_run_and_no_record_of_an_image(tmp_path):
    with pytest.raises(ValueError, match='depth must be given with the image'):
        read(tmp_path / 'nothing')


def test_unknown_direction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="larger_is must be 'far' or 'near'"):
        DepthFromFile(str(tmp_path), larger_is='up')


@pytest.mark.parametrize('kind', hostile_depth_maps())
def test_hostile_maps_are_failures_that_name_the_file(folder, kind):
    write_hostile_depth(folder, 'a/x.jpg', kind)
    with pytest.raises(ImageFailure, match=r'depth map .*a/x\.'):
        read(folder)


@pytest.mark.parametrize('scale', [-1.0, 2.0, -0.5])
def test_pfm_of_any_scale_and_byte_order_is_read_as_opencv_reads_it(folder, scale):
    values = DEPTH.astype('<f4' if scale < 0 else '>f4')
    (folder / 'a/x.pfm').write_bytes(f'Pf\n3 2\n{scale}\n'.encode() + values.tobytes())
    expected = cv2.imread(str(folder / 'a/x.pfm'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read(folder), expected)


@pytest.mark.parametrize(
    'array', [DEPTH[..., None], np.asfortranarray(DEPTH), DEPTH.astype('>f8')]
)
def test_npy_of_any_order_is_read(folder, array):
    assert np.array_equal(read_array(folder, array), DEPTH)


@pytest.mark.parametrize('depth_hw', [(4, 6), (3, 3), (80, 91), (5, 12)])
def test_a_map_of_another_size_or_aspect_is_read(folder, depth_hw):
    assert read_array(folder, np.ones(depth_hw, np.float32)).shape == depth_hw


# family -> how its published checkpoint prepares an image
PUBLISHED = {
    'ZoeDepth': (zoe, {'size': {'height': 384, 'width': 512}}),
    'DPT': (dpt, {'size': {'height': 384, 'width': 384}}),
    'MiDaS, DPT-hybrid': (dpt_hybrid, {'size': {'height': 384, 'width': 384}}),
    'MiDaS, BEiT': (
        dpt_beit,
        {
            'size': {'height': 512, 'width': 512},
            'keep_aspect_ratio': True,
            'ensure_multiple_of': 32,
        },
    ),
    'Depth Anything': (
        depth_anything,
        {
            'size': {'height': 518, 'width': 518},
            'keep_aspect_ratio': True,
            'ensure_multiple_of': 14,
        },
    ),
}
SIZES = [(480, 640), (640, 480), (333, 500)]


class Identity(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, pixel_values):
        return SimpleNamespace(predicted_depth=pixel_values.mean(dim=1))


def box_image(image_hw):
    """A bright box on black, and its mask; an eighth of each side is border."""
    height, width = image_hw
    mask = np.zeros(image_hw, bool)
    mask[height // 8 : height - height // 8, width // 8 : width - width // 8] = True
    return NamedImage('x.png', np.uint8(255) * mask[..., None].repeat(3, axis=2)), mask


def shown(depth, image_hw):
    """Threshold a map stretched over the image."""
    stretched = Image.fromarray(depth).resize(image_hw[::-1], Image.Resampling.BILINEAR)
    values = np.asarray(stretched)
    return values > (values.min() + values.max()) / 2


def identity_extractor(family, folder, **options):
    make, prepared = PUBLISHED[family]
    network, processor = make()
    network.save_pretrained(folder, safe_serialization=True)
    type(processor)(**prepared).save_pretrained(folder)
    extractor = HFDepth(str(folder), **options)
    extractor.network = Identity(extractor.network.config)
    return extractor


@pytest.mark.parametrize('family', PUBLISHED)
def test_depth_lies_on_the_image(tmp_path, family):
    extractor = identity_extractor(family, tmp_path)
    for image_hw in SIZES:
        image, mask = box_image(image_hw)
        (depth,) = extractor([image])
        assert iou(shown(depth, image_hw), mask) >= 0.99, image_hw


@pytest.mark.slow
def test_marigold_lies_on_the_image(tmp_path):
    marigold(tmp_path).save_pretrained(tmp_path / 'model', safe_serialization=True)
    extractor = MarigoldDepth(
        str(tmp_path / 'model'), num_inference_steps=1, processing_resolution=256
    )
    pipeline, seen = extractor.pipeline, {}
    prepare = pipeline.prepare_latents

    def keep_image(image, *others):
        seen['image'] = image
        return prepare(image, *others)

    pipeline.prepare_latents = keep_image
    pipeline.decode_prediction = lambda latent: seen['image'].mean(1, keepdim=True) / 2 + 0.5
    for image_hw in SIZES:
        image, mask = box_image(image_hw)
        (depth,) = extractor([image])
        assert iou(shown(depth, image_hw), mask) >= 0.99, image_hw


def test_padding_that_is_not_known_is_refused(tmp_path):
    network, _ = dpt()
    network.save_pretrained(tmp_path, safe_serialization=True)
    transformers.DPTImageProcessor(do_pad=True, size_divisor=64).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='do_pad must be False'):
        HFDepth(str(tmp_path))


def measured(dtype=np.float32, unit=1):
    """A ramp from 2 to 4 m with a flat object at 1 m; whole numbers where they are no metres."""
    depth = np.tile(np.linspace(2, 4, 128), (96, 1))
    depth[30:70, 20:60] = 1
    depth = depth * unit
    return np.rint(depth).astype(dtype) if unit > 1 else depth.astype(dtype)


@pytest.mark.parametrize(
    ('dtype', 'unit', 'sentinel'),
    [
        (np.uint16, 1000, 65535),
        (np.int32, 1000, -1),
        (np.int32, 1000, 2**31 - 1),
        (np.float32, 1, -1),
        (np.float32, 1, 1e10),
        (np.float32, 1, 100),
    ],
)
def test_sentinels_are_filled_and_said_once(
    folder, rng, monkeypatch, caplog, dtype, unit, sentinel
):
    monkeypatch.setattr(files, '_said', set())
    expected = measured(dtype, unit)
    damaged = expected.copy()
    damaged[:3] = sentinel
    np.save(folder / 'a/x.npy', damaged)
    for _ in range(2):
        found = read(folder)
        assert (found[3:] == expected[3:]).all() and (found[:3] == expected[3]).all()
    assert caplog.text.count('not measured') == 1 and '384 of 12288 pixels' in caplog.text


def test_a_flat_wall_far_behind_a_room_is_no_sentinel():
    rows, columns = np.mgrid[:30, :40]
    depth = (3 + 5 * rows / 30 + columns / 100).astype(np.float32)
    depth[:12] = 14.0
    assert not sentinels(depth, np.ones_like(depth, bool))
    depth[:12] = 100.0
    assert list(sentinels(depth, np.ones_like(depth, bool))) == ['the value 100']


@pytest.mark.parametrize(('dtype', 'unit'), [(np.uint16, 1000), (np.float32, 1)])
def test_a_flat_object_in_front_of_the_scene_is_no_sentinel(folder, dtype, unit):
    assert (read_array(folder, measured(dtype, unit)) == measured(dtype, unit)).all()


def test_a_relative_map_keeps_its_negative_values(folder, rng):
    depth = rng.standard_normal((30, 40)).astype(np.float32)
    assert (read_array(folder, depth) == depth).all()


def test_maps_of_8_bits_and_drawn_planes_keep_their_end_values(folder):
    scaled = np.tile(np.arange(100, 120, dtype=np.uint8), (30, 2))
    scaled[:5] = 255
    assert (read_array(folder, scaled) == scaled).all()
    planes = np.where(np.arange(40) < 9, 7000, np.where(np.arange(40) < 20, 1000, 1500))
    assert (read_array(folder, np.tile(planes.astype(np.uint16), (30, 1))) == planes).all()


def test_other_values_that_mean_no_depth_can_be_named(folder):
    depth = measured()
    depth[:3] = 2.5
    assert (read_array(folder, depth)[:3] == 2.5).all()
    assert (read(folder, invalid=(2.5,))[:3] == depth[3]).all()
