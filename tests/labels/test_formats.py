"""Folders of other tools hold the masks of the store, read as each tool reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.drawn import disc, iou, photo
from PIL import Image
from pycocotools import mask as coco_mask

from cuts3d_mm.labels.formats import MOST_VOC_OBJECTS, export_folder, voc_palette
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.rle import pack_runs
from cuts3d_mm.labels.store import read_store, write_store

HW = (60, 90)
RING = disc((30, 40), 20, HW) & ~disc((30, 40), 10, HW)
PARTS = disc((14, 70), 9, HW) | disc((45, 75), 10, HW) | disc((45, 12), 5, HW)
MASKS = (RING, PARTS, disc((5, 5), 0.4, HW))  # a hole, three parts, one pixel
SCORES = (0.5, 0.75, 0.25)


@pytest.fixture
def store(tmp_path, rng):
    """Two images, one without objects, in a folder and a name with spaces."""
    instances = tuple(map(encode_instance, MASKS, [None] * 3, SCORES))
    records = [ImageRecord('a b.png', HW, instances), ImageRecord('sub/empty.png', HW)]
    records.append(ImageRecord('broken.png', (0, 0), failure='cannot be read'))
    for record in records[:2]:
        path = tmp_path / 'images' / record.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(rng, HW)).save(path)
    write_store(tmp_path / 'store', sorted(records, key=lambda record: record.name))
    return tmp_path / 'store'


def write_records(tmp_path, *records):
    write_store(tmp_path / 'other', records)
    return tmp_path / 'other'


def read_yolo(folder):
    """Classes and masks of each image, as a training of YOLO finds and reads them."""
    data = yaml.safe_load((folder / 'data.yaml').read_text('utf-8'))
    found = {}
    for path in sorted((folder / data['train']).rglob('*.[!t]*')):
        name = path.relative_to(folder / 'images')
        labels = Path('/labels/'.join(path.as_posix().rsplit('/images/', 1)))
        lines = labels.with_suffix('.txt').read_text().splitlines()
        size_wh = Image.open(path).size
        masks = []
        for line in lines:
            label, *shares = line.split()
            outline = np.reshape([float(share) for share in shares], (-1, 2))
            assert 0 <= outline.min() and outline.max() <= 1 and len(outline) >= 3
            polygon = (outline * size_wh).ravel().tolist()
            codes = coco_mask.frPyObjects([polygon], *size_wh[::-1])
            masks.append((data['names'][int(label)], coco_mask.decode(codes)[..., 0] > 0))
        found[name.as_posix()] = masks
    return found


def test_yolo_polygons_give_the_masks_back(store, tmp_path):
    exported = export_folder(store, tmp_path / 'yolo', 'yolo-seg', tmp_path / 'images')
    assert exported.num_images == 2 and not exported.refused
    found = read_yolo(tmp_path / 'yolo')
    assert set(found) == {'a b.png', 'sub/empty.png'} and not found['sub/empty.png']
    assert [name for name, _ in found['a b.png']] == ['object'] * 3
    for (_, mask), true in zip(found['a b.png'], MASKS, strict=True):
        assert iou(mask, true) >= 0.95


def test_yolo_finds_the_labels_of_a_subfolder_named_images(tmp_path):
    name = 'sub/images/c.png'
    path = tmp_path / 'images' / name
    path.parent.mkdir(parents=True)
    Image.new('RGB', HW[::-1]).save(path)
    record = ImageRecord(name, HW, (encode_instance(RING, None, 0.5),))
    other = write_records(tmp_path, record)
    export_folder(other, tmp_path / 'yolo', 'yolo-seg', tmp_path / 'images')
    assert len(read_yolo(tmp_path / 'yolo')[name]) == 1


def test_supervision_reads_the_yolo_folder(store, tmp_path):
    """It rounds outlines to whole pixels, and draws double lines one pixel wide."""
    supervision = pytest.importorskip('supervision')
    folder = tmp_path / 'yolo'
    export_folder(store, folder, 'yolo-seg', tmp_path / 'images')
    given = [str(folder / name) for name in ('images', 'labels', 'data.yaml')]
    dataset = supervision.DetectionDataset.from_yolo(*given, force_masks=True)
    ((_, _, found),) = dataset
    assert dataset.classes == ['object'] and found.class_id.tolist() == [0, 0, 0]
    for mask, true in zip(found.mask[:2], MASKS[:2], strict=True):
        assert iou(mask, true) >= 0.8


REQUIRED = {'version', 'flags', 'shapes', 'imagePath', 'imageData', 'imageHeight', 'imageWidth'}
REQUIRED_OF_SHAPES = {'label', 'points', 'group_id', 'shape_type', 'flags'}


def test_labelme_files_follow_its_rules_and_lead_to_the_image(store, tmp_path):
    export_folder(store, tmp_path / 'labelme', 'labelme', tmp_path / 'images')
    for name in ('a b', 'sub/empty'):
        path = tmp_path / f'labelme/{name}.json'
        content = json.loads(path.read_text('utf-8'))
        assert content.keys() >= REQUIRED and content['imageData'] is None
        image = Image.open(path.parent / content['imagePath'])
        assert image.size == (content['imageWidth'], content['imageHeight']) == HW[::-1]
    shapes = json.loads((tmp_path / 'labelme/a b.json').read_text('utf-8'))['shapes']
    assert all(one.keys() >= REQUIRED_OF_SHAPES and len(one['points']) >= 3 for one in shapes)
    assert {one['shape_type'] for one in shapes} == {'polygon'}
    # Parts of one object are a group.
    assert [one['group_id'] for one in shapes] == [None, 2, 2, 2, None]
    codes = coco_mask.frPyObjects([np.ravel(one['points']).tolist() for one in shapes[1:4]], *HW)
    assert iou(coco_mask.decode(coco_mask.merge(codes)) > 0, PARTS) >= 0.95


def test_voc_pictures_number_objects_by_score_and_have_its_colours(store, tmp_path):
    folder = tmp_path / 'voc'
    export_folder(store, folder, 'voc-png')
    objects = Image.open(folder / 'SegmentationObject/a b.png')
    classes = np.asarray(Image.open(folder / 'SegmentationClass/a b.png'))
    assert objects.mode == 'P' and objects.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    numbers = np.asarray(objects)
    assert [(numbers == n).sum() for n in (1, 2)] == [PARTS.sum(), (RING & ~PARTS).sum()]
    assert ((classes == 1) == np.any(MASKS, axis=0)).all() and set(np.unique(classes)) == {0, 1}
    assert not np.asarray(Image.open(folder / 'SegmentationObject/sub/empty.png')).any()
    listed = (folder / 'ImageSets/Segmentation/default.txt').read_text().splitlines()
    assert listed == ['a b', 'sub/empty']
    assert 'object:128,0,0::' in (folder / 'labelmap.txt').read_text().splitlines()
    assert voc_palette()[[3, 255]].tolist() == [[128, 128, 0], [224, 224, 192]]


@pytest.mark.parametrize('form', ['yolo-seg', 'labelme', 'voc-png'])
def test_an_object_whose_mask_is_empty_is_left_out_whatever_its_area_says(tmp_path, form):
    found = encode_instance(disc((5, 5), 3, HW), None, 0.5)
    nothing = replace(found, rle=pack_runs([60 * 90], HW))
    store = write_records(tmp_path, ImageRecord('a.png', HW, (nothing, found)))
    assert export_folder(store, tmp_path / 'out', form).num_images == 1
    if form == 'yolo-seg':
        assert len((tmp_path / 'out/labels/a.txt').read_text().splitlines()) == 1


def test_classes_of_instances_are_those_of_the_files(store, tmp_path):
    (record,) = (one for one in read_store(store) if one.instances)
    classes = ('tea "🍵", ü', None, 'fork')
    pairs = zip(record.instances, classes, strict=True)
    named = tuple(replace(one, category=name) for one, name in pairs)
    store = write_records(tmp_path, replace(record, instances=named))
    export_folder(store, tmp_path / 'yolo', 'yolo-seg', tmp_path / 'images')
    found = [name for name, _ in read_yolo(tmp_path / 'yolo')['a b.png']]
    assert found == ['tea "🍵", ü', 'object', 'fork']
    export_folder(store, tmp_path / 'voc', 'voc-png')
    classes = np.asarray(Image.open(tmp_path / 'voc/SegmentationClass/a b.png'))
    assert classes[10, 40] == 3 and classes[45, 12] == 2  # fork, object, tea
    export_folder(store, tmp_path / 'labelme', 'labelme')
    shapes = json.loads((tmp_path / 'labelme/a b.json').read_text('utf-8'))['shapes']
    assert [one['label'] for one in shapes] == ['tea "🍵", ü', *['object'] * 3, 'fork']
    odd = replace(record, instances=(replace(named[0], category='a:b'),))
    write_store(tmp_path / 'odd', [odd])
    with pytest.raises(ValueError, match="for voc-png without a colon, got 'a:b'"):
        export_folder(tmp_path / 'odd', tmp_path / 'refused', 'voc-png')
    assert not (tmp_path / 'refused').exists()


def test_objects_that_eight_bits_cannot_number_are_said(tmp_path):
    instance = encode_instance(disc((5, 5), 3, HW), None, 0.5)
    store = write_records(tmp_path, ImageRecord('a.png', HW, (instance,) * 256))
    exported = export_folder(store, tmp_path / 'voc', 'voc-png')
    assert exported.refused == (f'{256 - MOST_VOC_OBJECTS} objects of a.png, those of the lowest '
                                'score',)  # fmt: skip


@pytest.mark.parametrize('form', ['yolo-seg', 'labelme', 'voc-png'])
def test_no_name_leads_out_or_replaces_the_labels_of_another(tmp_path, form):
    names = ['../out.png', '/abs.png', 'a.jpg', 'a.png', 'v.mp4#000001', 'v.mp4#000002']
    store = write_records(tmp_path, *(ImageRecord(name, HW) for name in names))
    before = {path for path in tmp_path.rglob('*')}
    exported = export_folder(store, tmp_path / 'folder/out', form)
    assert exported.num_images == 3 and len(exported.refused) == 3
    assert 'a.png must differ from a.jpg in more than its suffix' in exported.refused[-1]
    made = {path for path in tmp_path.rglob('*')} - before
    assert all(path.is_relative_to(tmp_path / 'folder') for path in made)


def test_images_that_are_missing_or_linked_elsewhere_are_left_out(store, tmp_path):
    (tmp_path / 'images/a b.png').unlink()
    (tmp_path / 'images/sub/empty.png').unlink()
    (tmp_path / 'images/sub/empty.png').symlink_to(__file__)
    exported = export_folder(store, tmp_path / 'yolo', 'yolo-seg', tmp_path / 'images')
    assert exported.num_images == 0
    assert 'found no' in exported.refused[0] and 'a link leads out' in exported.refused[1]
    assert not any(path.is_file() for path in Path(tmp_path / 'yolo/labels').rglob('*'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--format', 'labelme', '--polygons'), '--polygons is for a COCO JSON'),
        (('--images', '.'), '--images is for yolo-seg and labelme'),
        (('--images', '.', '--format', 'voc-png'), 'leave it out with voc-png'),
        (('--format', 'yolo-seg'), 'OUT must not exist yet'),
    ],
)
def test_wrong_calls_are_one_line(cuts3d, store, tmp_path, arguments, message):
    code, _, err = cuts3d('export', store, tmp_path / 'images', *arguments)
    assert code == 2 and message in err and err.count('\n') == 1


def test_the_command_writes_a_folder(cuts3d, store, tmp_path):
    arguments = ('--format', 'yolo-seg', '--images', tmp_path / 'images')
    code, out, err = cuts3d('export', store, tmp_path / 'yolo', *arguments)
    assert code == 0 and out == f'2 images -> {tmp_path / "yolo"}\n', err
    assert len(read_yolo(tmp_path / 'yolo')['a b.png']) == 3
