"""The commands as a user meets them, run in this process for speed."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import write_depths, write_images
from PIL import Image

from cuts3d_mm.cli import at_least
from cuts3d_mm.labels.store import read_names

MASKCUT = 'maskcut_color-texture.py'
CUTS3D = 'cuts3d_color-texture_file-depth.py'
QUICK = ('--cfg-options', 'model.input_hw=(240,320)')


@pytest.fixture
def folder(tmp_path, rng):
    names = write_images(tmp_path / 'images', 6, rng)
    write_depths(tmp_path / 'depth', names, rng)
    return tmp_path


@pytest.fixture
def store(folder, cuts3d):
    arguments = (folder / 'images', folder / 'out', '--depth', folder / 'depth', '--workers', 0)
    out = cuts3d.done('generate', CUTS3D, *arguments, *QUICK)
    assert out.startswith('6 images: ')
    return folder / 'out'


def test_a_network_of_timm_labels_images_and_again_to_the_same_bytes(cuts3d, folder, tmp_path):
    timm = pytest.importorskip('timm')
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model('test_resnet').state_dict(), tmp_path / 'w.pth')
    options = {'type': 'cuts3d_mm.TimmFeatures', 'model': 'test_resnet', 'stage': 2}
    options |= {'_delete_': True, 'checkpoint': tmp_path / 'w.pth'}
    given = [f'model.features.{name}={value}' for name, value in options.items()]
    shards = []
    for out in (folder / 'first', folder / 'second'):
        arguments = (MASKCUT, folder / 'images', out, '--workers', 0, '--cfg-options')
        text = cuts3d.done('generate', *arguments, 'model.input_hw=(64,96)', *given)
        shards.append([path.read_bytes() for path in sorted(out.glob('labels-*.parquet'))])
    assert shards[0] == shards[1] and text.startswith('6 images: ')


def test_export_loads_with_every_mask_of_its_image_size(cuts3d, store, tmp_path):
    from pycocotools.coco import COCO

    code, out, _ = cuts3d('export', store, tmp_path / 'labels.json')
    assert code == 0 and '6 images' in out
    coco = COCO(str(tmp_path / 'labels.json'))
    assert len(coco.anns) > 0
    for annotation in coco.anns.values():
        assert coco.annToMask(annotation).shape == (60, 88)
        assert annotation['area'] == coco.annToMask(annotation).sum()


def test_score_of_labels_against_themselves_is_perfect(cuts3d, store, tmp_path):
    cuts3d('export', store, tmp_path / 'labels.json')
    for labels in (store, tmp_path / 'labels.json'):
        figures = tmp_path / 'scores.json'
        code, out, _ = cuts3d('score', labels, tmp_path / 'labels.json', '--json', figures)
        assert code == 0 and '100.00' in out
        assert json.loads(figures.read_text())['segm']['AP'] == pytest.approx(1)


def test_the_gate_scores_the_labelled_images_and_passes_what_is_in_range(cuts3d, store, tmp_path):
    cuts3d('export', store, tmp_path / 'labels.json')
    truth = json.loads((tmp_path / 'labels.json').read_text())
    unlabelled = {'id': 99, 'file_name': 'other.jpg', 'height': 60, 'width': 88}
    objects = [dict(one, id=1000 + one['id'], image_id=99) for one in truth['annotations']]
    truth['images'].append(unlabelled)
    truth['annotations'] += objects
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    code, out, err = cuts3d('score', store, tmp_path / 'truth.json', '--gate', '90-100')
    assert code == 0 and 'mask AP 100.00 % (from 90 to 100)' in out, err
    code, out, err = cuts3d('score', store, tmp_path / 'truth.json', '--gate', '1.1-7.5')
    assert code == 2 and '100.00' in out
    assert 'a mask AP out of range' in err and 'mask AP 100.00 % (from 1.1 to 7.5)' in err
    code, _, err = cuts3d('score', store, tmp_path / 'truth.json', '--gate', '1.1')
    assert code == 2 and 'must be LOW-HIGH' in err


def test_view_draws_every_labelled_image_under_its_own_name(cuts3d, store, folder, tmp_path):
    images, seen = folder / 'images', tmp_path / 'seen'
    code, _, _ = cuts3d('view', store, images, seen)
    drawn = sorted(seen.rglob('*.png'))
    names = sorted(path.relative_to(images) for path in images.rglob('*.png'))
    assert code == 0 and [path.relative_to(seen) for path in drawn] == names
    assert Image.open(drawn[0]).size == (88, 60)
    assert not (seen / 'not_drawn.jsonl').exists()  # all are
    rows = -(-len(names) // 6)
    assert Image.open(seen / 'contact_sheet.webp').size == (6 * 240, rows * 240)


def test_view_draws_as_many_random_images_as_asked_for(cuts3d, store, folder, tmp_path):
    seen = []
    for seed in (0, 0, 1):
        out = tmp_path / f'seen_{len(seen)}'
        arguments = (folder / 'images', out, '--random', 3, '--seed', seed)
        code, text, _ = cuts3d('view', store, *arguments)
        assert code == 0 and text.startswith('3 images')
        seen.append(sorted(str(path.relative_to(out)) for path in out.rglob('*.png')))
    assert seen[0] == seen[1] != seen[2]


def test_describe_compares_the_counts_and_areas_of_labels(cuts3d, store, tmp_path):
    cuts3d('export', store, tmp_path / 'labels.json')
    code, out, _ = cuts3d('describe', store, tmp_path / 'labels.json')
    assert code == 0
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in out.splitlines()]
    assert lines[0] == ['', 'out', 'labels.json']
    figures = {line[0]: line[1:] for line in lines[2:]}
    assert figures['images'] == ['6', '6']
    assert all(first == second for first, second in figures.values())


def test_a_program_reads_the_figures_and_the_configs_as_json(cuts3d, store, tmp_path):
    (figures,) = json.loads(cuts3d('describe', store, '--json')[1])
    assert figures['images'] == 6 == sum(figures['images_by_count'])
    assert figures['instances'] == sum(figures['instances_by_area']) > 0
    (config,) = json.loads(cuts3d('configs', 'maskcut_color', '--json')[1])
    assert config['name'] == 'maskcut_color-texture' and Path(config['path']).is_file()
    cuts3d('export', store, tmp_path / 'labels.json')
    for place in ('-', tmp_path / 'scores.json'):
        code, out, _ = cuts3d('score', store, tmp_path / 'labels.json', '--json', place)
        text = out if place == '-' else place.read_text()
        assert code == 0 and json.loads(text)['segm']['AP'] == 1


def test_view_without_the_images_says_so(cuts3d, store, tmp_path):
    code, _, err = cuts3d('view', store, tmp_path, tmp_path / 'seen')
    assert code == 2 and 'IMAGES must be the folder' in err


def test_explain_writes_a_figure_and_says_why_each_cut_was_rejected(cuts3d, folder, tmp_path):
    figure = tmp_path / 'figure.png'
    arguments = (folder / 'images/a/000.png', '--depth', folder / 'depth/a', '--out', figure)
    large = (*QUICK, 'model.recipe.min_area_ratio=0.3')
    code, out, _ = cuts3d('explain', CUTS3D, *arguments, *large)
    assert code == 0 and 'must be above 30.0%' in out
    assert Image.open(figure).size[0] > 800
    code, text, _ = cuts3d('explain', CUTS3D, *arguments, *large, '--json')
    found = json.loads(text)
    assert code == 0 and found['image_hw'] == list(Image.open(arguments[0]).size[::-1])
    reasons = [f', {cut["patches"]} patches: {cut["reason"]}' for cut in found['rejected']]
    marks = [' a', ' b', ' c', *[' (not drawn)'] * len(reasons)]
    lines = [f'rejected{one}{reason}' for one, reason in zip(marks, reasons, strict=False)]
    assert lines and out.splitlines()[1:] == [*lines, f'ended: {found["ended"]}']
    title = f'{Path(CUTS3D).stem} {" ".join(large[1:])}'
    assert out.startswith(f'{title}: {len(found["instances"])} instances -> ')


def test_explain_draws_two_recipes_next_to_each_other(cuts3d, folder, tmp_path):
    figure = tmp_path / 'figure.png'
    arguments = (folder / 'images/a/000.png', '--depth', folder / 'depth/a', '--out', figure)
    widths = []
    for other in ((), ('--compare', 'paper'), ('--compare', MASKCUT)):
        text = cuts3d.done('explain', CUTS3D, *arguments, *QUICK, *other, '--json')
        assert ('compare' in json.loads(text)) == bool(other)
        widths.append(Image.open(figure).size[0])
    assert widths[1] == pytest.approx(2 * widths[0], abs=2)  # in 3D as well
    assert widths[0] < widths[2] < widths[1]
    code, _, err = cuts3d('explain', CUTS3D, *arguments, '--compare', 'papr')
    assert code == 2 and 'CONFIG must be a file or a shipped config, got papr' in err


def test_where_generate_finds_nothing_explain_is_advised(cuts3d, folder):
    arguments = (CUTS3D, folder / 'images', folder / 'out', '--depth', folder / 'depth', *QUICK)
    code, out, err = cuts3d('generate', *arguments, 'model.recipe.min_area_ratio=0.9')
    assert code == 0 and out.startswith('6 images: 0 instances, 0 failures')
    assert f'no instance in 6 images; cuts3d explain {CUTS3D} IMAGE shows why' in err


def test_too_many_failures_end_with_three(cuts3d, folder):
    (folder / 'images/a/broken.png').write_bytes(b'')
    arguments = (MASKCUT, folder / 'images', folder / 'out2', '--workers', 0)
    code, out, err = cuts3d('generate', *arguments, *QUICK)
    assert code == 3 and '1 failures' in out and 'failures.jsonl' in err
    code, *_ = cuts3d('generate', *arguments, *QUICK, '--max-failures', 0.5)
    assert code == 0


@pytest.mark.parametrize('name', ['--part', '--shard'])  # --shard: of earlier releases
def test_a_part_of_a_run_is_labelled_alone(cuts3d, tmp_path, rng, name):
    write_images(tmp_path / 'images', 10, rng)
    arguments = (MASKCUT, tmp_path / 'images', tmp_path / 'out', '--workers', 0, *QUICK)
    cuts3d.done('generate', *arguments, name, '1/2')
    assert [path.name for path in (tmp_path / 'out').glob('*.parquet')] == [
        'labels-000001.parquet'
    ]


def wrong_calls(folder):
    images, out = folder / 'images', folder / 'new'
    return {
        'unknown config': ('nothing.py', images, out),
        'unknown option': (MASKCUT, images, out, '--cfg-options', 'model.recipe.tau=1'),
        'unknown part': (MASKCUT, images, out, '--cfg-options', 'recipe.tau=1'),
        'malformed option': (MASKCUT, images, out, '--cfg-options', 'model'),
        'no images': (MASKCUT, folder / 'depth', out),
        'missing images': (MASKCUT, folder / 'nothing', out),
        'missing depth folder': (CUTS3D, images, out, '--depth', folder / 'nothing'),
        'no depth given': (CUTS3D, images, out),
        'bad part': (MASKCUT, images, out, '--part', '3/2'),
        'bad share': (MASKCUT, images, out, '--max-failures', 1.5),
        'bad limit': (MASKCUT, images, out, '--limit', 0),
        'unknown image left out': (MASKCUT, images, out, '--exclude', folder / 'names.txt'),
        'no list of images': (MASKCUT, images, out, '--exclude', folder / 'nothing.txt'),
        'missing weights': (
            *(MASKCUT, images, out, '--cfg-options'),
            'model.features._delete_=True',
            'model.features.type=cuts3d_mm.ViTKeyFeatures',
            'model.features.backbone.arch=deit-tiny',
            'model.features.checkpoint=gone.pth',
        ),
        'unknown network': (
            *(MASKCUT, images, out, '--cfg-options', 'model.features._delete_=True'),
            *('model.features.type=cuts3d_mm.TimmFeatures', 'model.features.stage=4'),
            'model.features.model=resnet51',
        ),
    }


@pytest.mark.parametrize('case', wrong_calls(Path()))
def test_wrong_calls_end_with_one_line_and_nothing_written(cuts3d, folder, case):
    (folder / 'names.txt').write_text('a/9.png')
    code, _, err = cuts3d('generate', *wrong_calls(folder)[case])
    assert code == 2
    assert len(err.strip().splitlines()) == 1 and err.startswith('cuts3d generate: ')
    assert not (folder / 'new').exists()


def test_lists_and_coco_json_name_the_images(cuts3d, folder):
    (folder / 'list.txt').write_text('images/a/000.png\nimages/b/001.png\n')
    names = {'images': [{'file_name': 'a/001.png'}]}
    (folder / 'some.json').write_text(json.dumps(names))
    for source, count in ((folder / 'list.txt', 2), (folder / 'some.json', 1)):
        out = folder / f'out_{count}'
        code, text, _ = cuts3d('generate', MASKCUT, source, out, '--workers', 0, *QUICK)
        assert code == 0 and text.startswith(f'{count} images')


def test_images_left_out_are_part_of_what_a_run_is(cuts3d, folder):
    bad, arguments = folder / 'bad.txt', (MASKCUT, folder / 'images', folder / 'out')
    bad.write_text('# blurred\na/000.png\nb/001.png\n')
    given = (*arguments, '--workers', 0, *QUICK, '--exclude', bad)
    for _ in range(2):  # the second time it goes on
        code, text, err = cuts3d('generate', *given)
        assert code == 0 and text.startswith('4 images'), err
    assert [name for name in read_names(folder / 'out') if name.endswith('0.png')] == ['b/000.png']
    bad.write_text('b/001.png\n')
    code, _, err = cuts3d('generate', *given)
    assert code == 2 and '1 image more: a/000.png' in err and '--exclude' in err


def test_merging_leaves_images_out_and_knows_all_names(cuts3d, store, folder):
    (folder / 'bad.txt').write_text('a/000.png\n')
    given = (store, store, folder / 'merged', '--exclude', folder / 'bad.txt')
    code, text, err = cuts3d('merge_labels', *given)
    assert code == 0 and text.startswith('5 images'), err
    (folder / 'bad.txt').write_text('000.png\n')
    code, _, err = cuts3d('merge_labels', store, store, folder / 'more', *given[3:])
    assert code == 2 and '1 of 1 are not: 000.png' in err and not (folder / 'more').exists()


def test_doctor_prints_the_environment(cuts3d):
    code, out, _ = cuts3d('doctor')
    assert 'torch' in out and 'cuts3d_mm' in out
    assert code == int('PROBLEM' in out)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (('generat',), "no command 'generat'; did you mean generate? cuts3d --help lists all"),
        (('help', 'nosuch'), "no command 'nosuch'; cuts3d --help lists all"),
    ],
)
def test_unknown_command_is_refused_in_one_line_with_the_nearest(words, said):
    done = subprocess.run(
        [sys.executable, '-m', 'cuts3d_mm', *words], capture_output=True, text=True, check=False
    )
    # A mistake of the user, as any other.
    assert (done.returncode, done.stdout, done.stderr) == (2, '', f'cuts3d: {said}\n')


@pytest.mark.slow
def test_real_photos_are_all_accounted_for(cuts3d, coco287, tmp_path):
    arguments = (coco287 / 'images', tmp_path / 'out', '--depth', coco287 / 'depth')
    code, out, _ = cuts3d('generate', CUTS3D, *arguments, '--limit', 6, '--workers', 0)
    assert code == 0 and out.startswith('6 images')
    code, out, _ = cuts3d('score', tmp_path / 'out', coco287 / 'instances.json')
    assert code == 0 and 'AR100' in out and np.isfinite(float(out.split('|')[-2]))


@pytest.mark.parametrize('command', ['generate', 'explain'])
def test_depth_for_a_recipe_in_2d_is_refused(command, cuts3d, tmp_path, rng):
    (name,) = write_images(tmp_path / 'images', 1, rng)
    write_depths(tmp_path / 'depth', [name], rng)
    image = tmp_path / 'images' / (name if command == 'explain' else '')
    out = (tmp_path / 'out',) if command == 'generate' else ()
    options = '--depth', tmp_path / 'depth'
    code, _, err = cuts3d(command, 'maskcut_color-texture', image, *out, *options)
    assert code == 2 and '--depth must be left out with a recipe that cuts in 2D' in err
    assert not (tmp_path / 'out').exists()


def test_a_number_that_is_too_large_is_refused_by_the_largest():
    with pytest.raises(ArgumentTypeError, match=f'from 0 to {sys.maxsize}, got {10**19}'):
        at_least(0)(str(10**19))


@pytest.mark.parametrize(
    ('command', 'option'),
    [
        ('view', '--limit 0'),
        ('view', '--limit -1'),
        ('view', '--seed -1'),
        ('score', '--limit 0'),
        ('score', '--limit one'),
        ('demo', '--scenes 0'),
        ('learn', '--rounds -1'),
        ('app', '--port 65536'),
        ('app', '--port 0'),
        ('browse', '--limit 0'),
        ('detect', '--batch-size 0'),
    ],
)
def test_numbers_out_of_range_are_refused(command, option, cuts3d, tmp_path):
    labels = tmp_path / 'labels.json'
    labels.write_text('{}')
    places = {
        'view': (labels, tmp_path, tmp_path / 'out'),
        'score': (labels, labels),
        'demo': (tmp_path / 'out',),
        'learn': (tmp_path, tmp_path / 'out'),
        'app': (),
        'browse': ('cuts3d_tiny-cascade-mask-rcnn_r18_scenes',),
        'detect': (labels,),
    }[command]
    code, _, err = cuts3d(command, *places, *option.split())
    assert code == 2 and f'argument {option.split()[0]}: must be a number from' in err
