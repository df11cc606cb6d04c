"""No command reads or writes outside of its folders, whatever names it is given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.hostile_files import GOOD, HW, NOT_UTF8, REFUSED_IN_JSON, Place
from helpers.tiny_detectors import write_checkpoint
from helpers.training import SMALL
from PIL import Image

from cuts3d_mm.files.paths import is_inside, shown
from cuts3d_mm.labels.store import read_store

MASKCUT = ('maskcut_color-texture.py',)
QUICK = ('--cfg-options', 'model.input_hw=(64,64)')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('detector') / 'iter_1.pth'
    return write_checkpoint(path), path


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def run(cuts3d, place):
    """Run a command, and check that it changes nothing outside of its output."""

    def run_checked(*arguments):
        before = place.snapshot()
        done = cuts3d(*arguments)
        assert place.snapshot() == before
        return done

    return run_checked


def failures(path):
    lines = (json.loads(line) for line in path.read_text(encoding='utf-8').splitlines())
    return {line['path']: line['reason'] for line in lines}


def check_records(store, names):
    """Every bad name is a failure with a reason, the two good images are labelled."""
    records = {record.name: record for record in read_store(store)}
    reported = failures(store / 'failures.jsonl')
    assert {name for name, one in records.items() if one.failure is None} == set(GOOD)
    assert set(reported) == {shown(name) for name in names} and all(reported.values())
    assert len(records) == len(names) + len(GOOD)


def test_there_are_sixty_names_and_each_is_refused(place):
    names = (*place.names, *NOT_UTF8)
    assert len(set(names)) >= 60
    assert not any(is_inside(name) for name in names) and all(is_inside(name) for name in GOOD)


def test_generate(run, place):
    names = place.names_in_json
    source = place.write_json((*GOOD, *names))
    code, out, err = run('generate', *MASKCUT, source, place.out, '--workers', 0, *QUICK)
    assert code == 3 and f'{len(names)} failures' in out, err
    check_records(place.out, names)


@pytest.mark.parametrize('name', REFUSED_IN_JSON, ids=['empty', 'long', 'byte'])
def test_a_name_that_is_none_is_reported_or_the_json_refused(run, place, name):
    source = place.write_json((*GOOD, name))
    generate = ('generate', *MASKCUT, source, place.out, '--workers', 0, *QUICK)
    for command in (generate, ('convert', 'labels', source, place.here / 'out/labels')):
        code, _, err = run(*command)
        assert (code == 2 and 'must be a COCO JSON' in err) or code == 3
        said = [line for line in err.splitlines() if not line.endswith(' images, loading')]
        assert len(said) == 1


def test_generate_from_a_list(run, place):
    names = [name for name in place.names if name.strip() and not set(name) & set('\x00\n\r')]
    (place.images / 'list.txt').write_bytes('\n'.join((*GOOD, *names, 'a\udce9.png')).encode(
        'utf-8', 'surrogateescape'))  # fmt: skip
    source = place.images / 'list.txt'
    code, _, err = run('generate', *MASKCUT, source, place.out, '--workers', 0, *QUICK)
    assert code == 3, err
    check_records(place.out, [*names, 'a\udce9.png'])


@pytest.mark.slow
def test_predict(run, place, checkpoint):
    names = place.names_in_json
    source = place.write_json((*GOOD, *names))
    code, out, err = run('predict', *checkpoint, source, place.out, '--workers', 0)
    assert code == 3 and f'{len(names)} failures' in out, err
    check_records(place.out, names)


def test_detect(run, place, checkpoint):
    names = place.names_in_json
    source = place.write_json((*GOOD, *names))
    code, _, err = run(
        'detect', source, '--model', checkpoint[0], '--weights', checkpoint[1], '--device', 'cpu',
        '--out', place.out, '--save', 'pictures', 'masks', 'coco',
    )  # fmt: skip
    assert code == 3, err
    check_records(place.out / 'labels', names)
    written = {path.relative_to(place.out).as_posix() for path in place.out.rglob('*.png')}
    assert written == {f'{kind}/{name}' for name in GOOD for kind in ('pictures',)} | {
        f'masks/{name}.png' for name in GOOD
    }


@pytest.mark.parametrize('kind', ['store', 'json'])
def test_view(run, place, kind):
    names = place.names if kind == 'store' else place.names_in_json
    labels = (place.write_store if kind == 'store' else place.write_json)((*GOOD, *names))
    code, out, err = run('view', labels, place.images, place.out)
    assert code == 3 and out.startswith('2 images ->') and 'not_drawn.jsonl' in err
    assert len(failures(place.out / 'not_drawn.jsonl')) == len(names)
    assert len([path for path in place.out.rglob('*.png') if path.is_file()]) == len(GOOD)


@pytest.mark.parametrize('command', [('export',), ('convert', 'labels')])
def test_export_and_convert_a_store(run, place, command):
    store = place.write_store((*GOOD, *place.names))
    code, out, err = run(*command, store, place.out)
    assert code == 3 and out.startswith('2 images ->')
    written = json.loads(place.out.read_text())
    assert [image['file_name'] for image in written['images']] == sorted(GOOD)
    assert len(written['annotations']) == len(GOOD)
    assert err.count('left out: file name must stay inside its folder') == len(place.names)
    assert err.count('\n') == len(place.names) and '\x1b' not in err


def test_convert_a_json(run, place):
    names = place.names_in_json
    source = place.write_json((*GOOD, *names))
    code, _, err = run('convert', 'labels', source, place.out)
    assert code == 3 and err.count('left out: ') == len(names)
    check_records(place.out, names)


def test_score_draws_nothing_from_outside(run, place):
    labels = place.write_json((*GOOD, *place.names_in_json))
    truth = json.loads(labels.read_text())
    (place.here / 'old.json').write_text(labels.read_text())
    for annotation in truth['annotations']:
        annotation['segmentation'] = [[1, 1, 20, 1, 20, 20, 1, 20]]
    (place.here / 'truth.json').write_text(json.dumps(truth))
    code, _, err = run(
        'score', labels, place.here / 'truth.json', '--against', place.here / 'old.json',
        '--images', place.images, '--out', place.out, '--limit', 100,
    )  # fmt: skip
    assert code == 3 and err.count('left out: ') == len(place.names_in_json)
    assert len(list(place.out.iterdir())) == len(GOOD)


def test_browse_leaves_bad_names_out(cuts3d, place):
    store = place.write_store((*GOOD, *place.names))
    before = {path: text for path, text in place.snapshot().items() if 'arrow' not in path}
    options = ('train_dataloader.dataset.dataset.ann_file=' + str(store),)
    options += ('train_dataloader.dataset.dataset.data_prefix.img=' + str(place.images),)
    options += ('train_dataloader.dataset.dataset.data_root=',)
    code, out, err = cuts3d(
        'browse', 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py', '--limit', 4, '--out', place.out,
        '--cfg-options', *SMALL, *options,
    )  # fmt: skip
    assert code == 0 and '4 samples' in out, err
    after = {path: text for path, text in place.snapshot().items() if 'arrow' not in path}
    assert after == before


def test_links_that_leave_are_failures_when_read(run, place):
    (place.images / 'link.png').symlink_to(place.here / 'secret.png')
    (place.images / 'linked').symlink_to(place.here)
    (place.images / 'within.png').symlink_to('sub/b.png')
    code, out, _ = run('generate', *MASKCUT, place.images, place.out, '--workers', 0, *QUICK)
    assert code == 3 and out.startswith('5 images: ')
    found = failures(place.out / 'failures.jsonl')
    assert set(found) == {'link.png', 'linked'}
    assert all('a link leads out of' in reason for reason in found.values())


def test_links_that_leave_are_failures_when_written(run, place):
    place.out.mkdir()
    (place.out / 'sub').symlink_to(place.here)
    store = place.write_store(GOOD)
    code, out, _ = run('view', store, place.images, place.out)
    assert code == 3 and out.startswith('1 images ->')
    assert 'a link leads out of' in failures(place.out / 'not_drawn.jsonl')['sub/b.png']


def test_a_number_sign_in_a_name_stays(run, place, checkpoint):
    code, _, err = run(
        'detect', place.images, '--model', checkpoint[0], '--weights', checkpoint[1],
        '--device', 'cpu', '--out', place.out, '--save', 'masks',
    )  # fmt: skip
    assert code == 0, err
    assert np.asarray(Image.open(place.out / 'masks/a#b.png.png')).shape == HW
