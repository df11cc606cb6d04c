from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from helpers.drawn import disc
from PIL import Image

from cuts3d_mm.evaluation.average_precision import class_agnostic_ap, run_evaluation
from cuts3d_mm.evaluation.label_scores import (
    ScoreReport,
    compare,
    count_changes,
    image_quality,
    labels_as_detections,
    precision_recall,
    score_labels,
    scores_by_count,
)
from cuts3d_mm.images.reading import read_image
from cuts3d_mm.labels.coco import coco_annotation, write_coco
from cuts3d_mm.labels.record import ImageRecord, encode_instance

HW = (40, 70)


def record(name, *masks, score=1.0):
    return ImageRecord(name, HW, tuple(encode_instance(m, None, score) for m in masks))


def truth(*records, crowd=False):
    images, annotations = [], []
    for image_id, one in enumerate(records, start=1):
        images.append({'id': image_id, 'file_name': one.name, 'height': HW[0], 'width': HW[1]})
        for instance in one.instances:
            ids = {'id': len(annotations) + 1, 'image_id': image_id, 'category_id': image_id}
            annotations.append(coco_annotation(instance, HW) | ids | {'iscrowd': int(crowd)})
    return {'images': images, 'annotations': annotations}


LEFT, RIGHT = disc((20, 18), 12, HW), disc((20, 50), 12, HW)


def test_perfect_labels_score_one_whatever_the_category():
    labels = [record('a.jpg', LEFT, RIGHT), record('b.jpg', LEFT)]
    scores = score_labels(labels, truth(*labels))
    perfect = {'AP': 1, 'AP50': 1, 'AP75': 1, 'AR1': 2 / 3, 'AR10': 1, 'AR100': 1}
    of_sizes = {'APs': 1, 'APm': -1, 'APl': -1}  # all are small
    assert scores['segm'] == pytest.approx(perfect | of_sizes)


def test_half_of_the_instances_give_half_of_the_recall():
    scores = score_labels([record('a.jpg', LEFT)], truth(record('a.jpg', LEFT, RIGHT)))
    assert scores['segm']['AR100'] == pytest.approx(0.5)


def test_masks_and_boxes_are_scored_apart():
    box = np.zeros(HW, bool)
    box[8:33, 6:31] = True
    scores = score_labels([record('a.jpg', box)], truth(record('a.jpg', LEFT)))
    assert scores['bbox']['AP'] == pytest.approx(1) and scores['segm']['AP75'] < 1


def test_images_are_matched_by_their_last_part_where_it_is_unique():
    scores = score_labels([record('deep/a.jpg', LEFT)], truth(record('a.jpg', LEFT)))
    assert scores['segm']['AP'] == pytest.approx(1)


def test_annotated_image_without_labels_counts_as_missed():
    labels = [record('a.jpg', LEFT), ImageRecord('b.jpg', (0, 0), failure='x')]
    scores = score_labels(labels, truth(record('a.jpg', LEFT), record('b.jpg', LEFT)))
    assert scores['segm']['AR100'] == pytest.approx(0.5)


def test_labels_on_crowds_do_not_count():
    wanted = truth(record('a.jpg', LEFT))
    wanted['annotations'] += truth(record('a.jpg', RIGHT), crowd=True)['annotations']
    wanted['annotations'][1]['id'] = 2
    labels = [record('a.jpg', LEFT, RIGHT)]
    assert score_labels(labels, wanted)['segm']['AP'] == pytest.approx(1)


def test_no_labels_at_all_score_zero():
    assert score_labels([record('a.jpg')], truth(record('a.jpg', LEFT)))['segm']['AP'] == 0


def test_strangers_are_refused():
    with pytest.raises(ValueError, match='must share image names'):
        score_labels([record('x.jpg', LEFT)], truth(record('a.jpg', LEFT)))


def test_swapped_sizes_are_refused():
    wanted = truth(record('a.jpg', LEFT))
    wanted['images'][0] |= {'height': 70, 'width': 40}
    with pytest.raises(ValueError, match=r'must be \(height, width\) \(70, 40\)'):
        score_labels([record('a.jpg', LEFT)], wanted)


TRUTH = truth(record('a.png', LEFT), record('b.png', LEFT, RIGHT))


def detections(*records):
    return labels_as_detections(records, TRUTH)


def evaluated(wanted, found):
    return {kind: run_evaluation(wanted, found, kind) for kind in ('bbox', 'segm')}


def test_images_with_few_and_with_many_objects_are_scored_apart():
    found = detections(record('a.png', LEFT), record('b.png', LEFT))
    groups = scores_by_count(TRUTH, evaluated(TRUTH, found))
    assert {name: count for name, (count, _) in groups.items()} == {'1': 1, '2-3': 1}
    assert groups['1'][1]['segm']['AR100'] == pytest.approx(1)
    assert groups['2-3'][1]['segm']['AR100'] == pytest.approx(0.5)


def test_precision_falls_to_zero_after_the_last_object_that_is_found():
    found = detections(record('a.png', LEFT), record('b.png', LEFT))
    precision = precision_recall(run_evaluation(TRUTH, found, 'segm'))[0.5]
    assert precision.shape == (101,)
    assert precision[:66].tolist() == pytest.approx([1] * 66) and precision[68:].max() == 0


def test_no_detection_has_no_precision():
    assert precision_recall(run_evaluation(TRUTH, [], 'segm'))[0.5].max() == 0


@pytest.fixture
def crowded(rng):
    """Annotations of 40 images with crowd regions, and detections with equal scores."""
    sizes = rng.uniform(3, 12, 240), rng.uniform(0, 1, 240)
    masks = [disc((20, 60 * x + 5), size, HW) for size, x in zip(*sizes, strict=True)]
    of_images = [masks[i::40][: 1 + i % 6] for i in range(40)]
    wanted = truth(*(record(f'{i}.png', *some) for i, some in enumerate(of_images)))
    for annotation in wanted['annotations'][::9]:
        annotation['iscrowd'] = 1
    found = []
    for index, some in enumerate(of_images):
        moved = [np.roll(mask, rng.integers(-4, 5), axis=1) for mask in (*some, masks[index])]
        found.append(record(f'{index}.png', *moved, score=float(rng.integers(1, 9)) / 9))
    return wanted, labels_as_detections(found, wanted)


@pytest.mark.parametrize('sign', [1, -1])
def test_both_libraries_give_the_same_scores(crowded, monkeypatch, sign):
    pytest.importorskip('faster_coco_eval')
    for image in crowded[0]['images']:
        image['id'] *= sign  # some tools write negative ones
    for one in (*crowded[0]['annotations'], *crowded[1]):
        one['image_id'] *= sign
    found = []
    for is_there in (True, False):
        if not is_there:
            monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
        groups = {
            name: scores
            for name, (_, scores) in scores_by_count(crowded[0], evaluated(*crowded)).items()
        }
        curve = precision_recall(run_evaluation(*crowded, 'segm'))[0.5]
        found.append((class_agnostic_ap(*crowded), groups, curve))
    flat = [[value for kind in one[0].values() for value in kind.values()] for one in found]
    assert flat[0] == pytest.approx(flat[1], abs=1e-12) and 0.2 < flat[0][0] < 0.9
    for name, scores in found[0][1].items():
        for kind, values in scores.items():
            assert values == pytest.approx(found[1][1][name][kind], abs=1e-12)
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-12)


@pytest.mark.parametrize('is_there', [True, False])
def test_scores_of_some_images_are_those_of_an_evaluation_of_them_alone(
    crowded, is_there, monkeypatch
):
    if not is_there:
        monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    wanted, found = crowded
    counts = {i['id']: 0 for i in wanted['images']}
    for annotation in wanted['annotations']:
        counts[annotation['image_id']] += not annotation['iscrowd']
    chosen = {key for key, count in counts.items() if count in (2, 3)}
    part = {
        'images': [i for i in wanted['images'] if i['id'] in chosen],
        'annotations': [a for a in wanted['annotations'] if a['image_id'] in chosen],
    }
    alone = class_agnostic_ap(part, [one for one in found if one['image_id'] in chosen])
    assert scores_by_count(wanted, evaluated(wanted, found))['2-3'] == (len(chosen), alone)


def test_quality_is_the_mean_of_the_best_overlaps():
    codes = [one['segmentation'] for one in TRUTH['annotations'][1:]]
    assert image_quality(codes, codes[:1]) == pytest.approx(0.5)
    assert image_quality(codes, []) == 0


def test_comparison_puts_the_greatest_loss_first():
    before = detections(record('a.png', LEFT), record('b.png', LEFT))
    after = detections(record('a.png'), record('b.png', LEFT, RIGHT))
    changes = compare(TRUTH, before, after)
    assert [change.file_name for change in changes] == ['a.png', 'b.png']
    assert [change.gain for change in changes] == pytest.approx([-1, 0.5])
    assert count_changes(changes) == {'better': 1, 'worse': 1, 'same': 0}


def test_report_draws_the_image_that_got_worst(tmp_path):
    for name in ('a.png', 'b.png'):
        Image.fromarray(np.full((*HW, 3), 120, np.uint8)).save(tmp_path / name)
    write_sides(tmp_path, old=[record('a.png', LEFT)], new=[record('a.png', RIGHT)])
    paths = (tmp_path / f'{name}.json' for name in ('new', 'gt', 'old'))
    report = ScoreReport.of(*paths, all_images=True)
    assert '1 worse' in report.comparison() and 'a.png' in report.comparison()
    assert '| 2-3' in report.table_by_count() and report.plot().axes
    assert report.draw_worst(tmp_path, tmp_path / 'out', 1) == []
    (picture,) = (tmp_path / 'out').iterdir()
    assert picture.name == '000_a.png' and Image.open(picture).size == (3 * HW[1], HW[0])


def test_a_comparison_without_earlier_labels_is_refused(tmp_path):
    write_sides(tmp_path, labels=[record('a.png', RIGHT)])
    report = ScoreReport.of(tmp_path / 'labels.json', tmp_path / 'gt.json', None)
    for use in (report.comparison, report.changes):
        with pytest.raises(ValueError, match='needs earlier labels; pass'):
            use()


def test_images_of_16_bit_are_drawn_as_they_are_labelled(tmp_path, rng):
    grey = rng.integers(0, 65536, HW, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / 'a.png')
    write_sides(tmp_path, labels=[record('a.png', RIGHT)])
    report = ScoreReport.of(*(tmp_path / f'{name}.json' for name in ('labels', 'gt', 'labels')))
    assert report.draw_worst(tmp_path, tmp_path / 'out', 1) == []
    drawn = np.asarray(Image.open(tmp_path / 'out/000_a.png'))[:, : HW[1]]
    expected = read_image(tmp_path / 'a.png')
    far = ~disc((20, 18), 16, HW)  # off the mask and its outline
    assert (drawn[far] == expected[far]).all() and expected.max() > 200


def write_sides(tmp_path, **sides):
    (tmp_path / 'gt.json').write_text(json.dumps(TRUTH))
    for name, records in sides.items():
        write_coco(tmp_path / f'{name}.json', lambda records=records: records)


def test_the_labelled_images_are_scored_and_the_others_are_said(tmp_path, cuts3d):
    write_sides(tmp_path, labels=[record('a.png', LEFT)])
    paths = tmp_path / 'labels.json', tmp_path / 'gt.json'
    figures = tmp_path / 'scores.json'
    for options, scope, recall in (
        ((), '1 of 2 annotated images, those with labels', 1),
        (('--all',), 'all 2 annotated images', 1 / 3),
    ):
        code, out, err = cuts3d('score', *paths, '--json', figures, *options)
        assert code == 0, err
        assert out.startswith(scope)
        assert json.loads(figures.read_text())['segm']['AR100'] == pytest.approx(recall)


def test_two_sets_of_labels_are_compared_on_the_images_that_both_cover(tmp_path):
    new, both = record('a.png', LEFT), record('b.png', LEFT, RIGHT)
    write_sides(tmp_path, new=[new, both], old=[both], other=[new])
    report = ScoreReport.of(*(tmp_path / f'{name}.json' for name in ('new', 'gt', 'old')))
    assert report.scope().startswith('1 of 2') and '1 same' in report.comparison()
    with pytest.raises(ValueError, match='must share annotated images'):
        ScoreReport.of(*(tmp_path / f'{name}.json' for name in ('other', 'gt', 'old')))


def test_a_size_without_objects_has_no_score(tmp_path, cuts3d):
    write_sides(tmp_path, labels=[record('a.png', LEFT)])
    _, out, _ = cuts3d('score', tmp_path / 'labels.json', tmp_path / 'gt.json', '--by-count')
    row = next(line for line in out.splitlines() if line.startswith('| segm'))
    assert '-100' not in out and [cell.strip() for cell in row.split('|')].count('-') == 2
