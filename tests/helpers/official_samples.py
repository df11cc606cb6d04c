"""Tiny made-up data sets in the official formats, each with one object out of order."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

IMAGE_HW = (40, 60)


def write_image(path, image_hw=IMAGE_HW):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*image_hw, 3), 90, np.uint8)).save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def coco_content(images, id_of=lambda n: n, swapped=False, **extra):
    """Each image with a good box, one that reaches out, one outside and one without area."""
    boxes = [[5, 6, 20, 10], [50, 30, 20, 20], [70, 5, 8, 8], [10, 10, 0, 5]]
    height, width = IMAGE_HW[::-1] if swapped else IMAGE_HW
    found = []
    for number in range(len(images)):
        for box in boxes:
            polygon = [[box[0], box[1], box[0] + box[2], box[1], box[0], box[1] + box[3]]]
            found.append(
                {
                    'id': len(found) + 1,
                    'image_id': id_of(number),
                    'category_id': 7,
                    'bbox': box,
                    'area': box[2] * box[3] / 2,
                    'iscrowd': 0,
                    'segmentation': polygon,
                }
            )
    return {
        'images': [
            {'id': id_of(n), 'height': height, 'width': width, **image}
            for n, image in enumerate(images)
        ],
        'annotations': found,
        'categories': [{'id': 7, 'name': 'cat'}],
        **extra,
    }


def write_coco(src):
    for name in ('a', 'b'):
        write_image(src / 'val2017' / f'{name}.jpg')
    images = [{'file_name': f'{name}.jpg'} for name in ('a', 'b', 'missing')]
    write_json(src / 'annotations' / 'instances_val2017.json', coco_content(images))


def write_coco20k(src):
    for split in ('train2014', 'val2014'):
        names = [f'COCO_{split}_{n}.jpg' for n in range(2)]
        for name in names:
            write_image(src / split / name)
        content = coco_content([{'file_name': name} for name in names])
        write_json(src / 'annotations' / f'instances_{split}.json', content)
    (src / 'coco_20k_filenames.txt').write_text(
        'COCO_train2014_0.jpg\nCOCO_val2014_1.jpg\nCOCO_val2014_9.jpg\n'
    )


def write_lvis(src):
    for part in ('train2017', 'val2017'):
        write_image(src / part / '1.jpg')
    images = [
        {'coco_url': f'http://images.cocodataset.org/{part}/1.jpg'}
        for part in ('train2017', 'val2017', 'gone2017')
    ]
    write_json(src / 'annotations' / 'lvis_v1_val.json', coco_content(images))


def write_objects365(src):
    names = [f'images/v1/patch{n}/objects365_v1_{n}.jpg' for n in range(3)]
    for name in names[:2]:
        write_image(src / name)
    write_json(src / 'zhiyuan_objv2_val.json', coco_content([{'file_name': n} for n in names]))


def write_uvo(src):
    names = [f'video{n}/0.png' for n in range(3)]
    for name in names[:2]:
        write_image(src / 'uvo_videos_sparse_frames' / name)
    write_json(src / 'UVO_frame_val.json', coco_content([{'file_name': n} for n in names]))


def voc_xml(boxes, image_hw=IMAGE_HW):
    objects = ''.join(
        f'<object><name>cat</name><difficult>1</difficult><bndbox><xmin>{a}</xmin>'
        f'<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>'
        for a, b, c, d in boxes
    )
    height, width = image_hw
    size = f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
    return f'<annotation>{size}{objects}</annotation>'


def write_voc(folder, splits):
    boxes = [(6, 7, 25, 16), (51, 31, 70, 50), (71, 6, 78, 13), (11, 11, 'x', 15)]
    for name in ('000001', '000002'):
        write_image(folder / 'JPEGImages' / f'{name}.jpg')
    for name in ('000001', '000002', '000003'):
        path = folder / 'Annotations' / f'{name}.xml'
        path.parent.mkdir(exist_ok=True)
        path.write_text(voc_xml(boxes))
    (folder / 'Annotations' / '000004.xml').write_text('<annotation><size>')
    lists = folder / 'ImageSets' / 'Main'
    lists.mkdir(parents=True)
    (lists / f'{splits[0]}.txt').write_text('000001\n000003\n000004\n')
    (lists / f'{splits[1]}.txt').write_text('000002\n000005\n')


def write_kitti(src):
    rest = '-1 -1 -1 -1 -1 -1 -1'
    lines = [
        f'Car 0.0 0 1.5 5 6 25 16 {rest}',
        f'Pedestrian 0.0 0 1.5 50 30 70 50 {rest}',
        f'DontCare -1 -1 -10 30 5 45 12 {rest}',
        f'Van 0.0 0 1.5 70 5 78 13 {rest}',
        'Cyclist 0.0 0',
    ]
    labels = src / 'training' / 'label_2'
    labels.mkdir(parents=True)
    for name in ('000000', '000001', '000002'):
        (labels / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    for name in ('000000', '000001'):
        write_image(src / 'training' / 'image_2' / f'{name}.png')


def write_open_images(src):
    header = 'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf'
    rows = [header]
    for name in ('a1', 'b2', 'c3'):
        for box, group in (
            ('0.1,0.5,0.2,0.6', 0),
            ('0.9,1.2,0.8,1.1', 0),
            ('0.2,0.4,0.2,0.4', 1),
            ('0.3,0.3,0.2,0.4', 0),
            ('x,0.5,0.2,0.4', 0),
        ):
            rows.append(f'{name},verification,/m/01,1,{box},0,{group}')
    src.mkdir(parents=True, exist_ok=True)
    (src / 'validation-annotations-bbox.csv').write_text('\n'.join(rows) + '\n')
    for name in ('a1', 'b2'):
        write_image(src / 'validation' / f'{name}.jpg')


def write_open_images_masks(src):
    masks = src / 'validation-masks'
    masks.mkdir(parents=True)
    mask = np.zeros((20, 30), np.uint8)
    mask[4:12, 3:15] = 255
    rows = ['MaskPath,ImageID,LabelName,BoxID']
    for name in ('a1', 'b2'):
        Image.fromarray(mask).save(masks / f'{name}_m01.png')
        rows += [f'{name}_m01.png,{name},/m/01,0', f'{name}_gone.png,{name},/m/01,1']
        write_image(src / 'validation' / f'{name}.jpg')
    name = 'validation-annotations-object-segmentation.csv'
    (src / name).write_text('\n'.join(rows) + '\n')


WRITERS = {
    'coco': write_coco,
    'coco20k': write_coco20k,
    'lvis': write_lvis,
    'objects365': write_objects365,
    'uvo': write_uvo,
    'voc': lambda src: write_voc(src / 'VOC2007', ('trainval', 'test')),
    'clipart': lambda src: write_voc(src / 'clipart', ('train', 'test')),
    'comic': lambda src: write_voc(src / 'comic', ('train', 'test')),
    'watercolor': lambda src: write_voc(src / 'watercolor', ('train', 'test')),
    'kitti': write_kitti,
    'openimages': write_open_images,
    'openimages-masks': write_open_images_masks,
}
