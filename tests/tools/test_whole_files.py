"""Commands delete only what they made, leave no half file and keep out of each other's way."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from contextlib import contextmanager

import pytest
from helpers.drawn import write_images, write_labelled_images

from cuts3d_mm.configs import find_config
from cuts3d_mm.files import atomic
from cuts3d_mm.files.atomic import ProcessMark
from cuts3d_mm.files.lock import hold_folder

QUICK = ('--cfg-options', 'model.input_hw=(64,64)')
MASKCUT = 'maskcut_color-texture'


@pytest.fixture
def images(tmp_path, rng):
    write_images(tmp_path / 'images', 20, rng)
    return tmp_path / 'images'


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


@contextmanager
def room_for(num_bytes):
    """Let files grow to so many bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    sys.dont_write_bytecode = True  # byte code that is cut off would be read by later processes
    try:
        yield
    finally:
        sys.dont_write_bytecode = False
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('name', ['labels', 'pictures', 'masks', 'detections.json'])
def test_detect_refuses_a_folder_with_files_of_others(cuts3d, detector, images, tmp_path, name):
    project = tmp_path / 'project'
    if name == 'detections.json':
        project.mkdir()
        (project / name).write_text('{}')
    else:
        shutil.copytree(images / 'a', project / name)
    before = content(project)
    code, _, err = cuts3d('detect', images, *detector, '--out', project)
    assert code == 2 and f'it has {name} of something else; choose another --out' in err
    assert content(project) == before


@pytest.mark.slow
def test_detect_replaces_its_own_labels_but_no_others(cuts3d, detector, images, tmp_path):
    arguments = ('detect', images / 'a', *detector, '--out', tmp_path / 'out')
    assert cuts3d(*arguments)[0] == 0
    first = content(tmp_path / 'out')
    assert cuts3d(*arguments)[0] == 0
    assert content(tmp_path / 'out') == first
    (tmp_path / 'out/labels/mine.txt').write_text('mine')
    code, _, err = cuts3d(*arguments)
    assert code == 2 and 'it has mine.txt' in err
    assert content(tmp_path / 'out') == {**first, 'labels/mine.txt': b'mine'}


def test_convert_leaves_folders_of_the_user_alone(cuts3d, tmp_path):
    write_labelled_images(tmp_path)
    assert cuts3d('export', tmp_path / 'labels', tmp_path / 'x.json')[0] == 0
    (tmp_path / 'new.unfinished').mkdir()
    (tmp_path / 'new.unfinished/thesis.txt').write_text('mine')
    assert cuts3d('convert', 'labels', tmp_path / 'x.json', tmp_path / 'new')[0] == 0
    assert (tmp_path / 'new.unfinished/thesis.txt').read_text() == 'mine'
    before = content(tmp_path)
    code, _, err = cuts3d('convert', 'labels', tmp_path / 'x.json', tmp_path / 'new')
    assert code == 2 and 'must not exist yet' in err and content(tmp_path) == before


def test_a_second_run_stops_and_names_the_first(cuts3d, images, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    partial = out / f'.labels-000000.parquet.{ProcessMark.of_this_process()}.0.partial'
    partial.write_bytes(b'half')
    arguments = ('generate', MASKCUT, images, out, '--workers', 0, *QUICK)
    with hold_folder(out):
        code, _, err = cuts3d(*arguments)
    assert code == 2 and f'is being written by process {os.getpid()};' in err
    assert err.count('\n') == 1 and content(out) == {partial.name: b'half'}
    with hold_folder(out, 0, 2):
        assert cuts3d(*arguments)[0] == 2
        assert cuts3d(*arguments, '--part', '0/2')[0] == 2
        assert cuts3d(*arguments, '--part', '1/2')[0] == 0
    assert cuts3d(*arguments)[0] == 0
    assert partial.read_bytes() == b'half'  # its writer is alive


TRAINING = 'cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet'
IN_A_BUCKET = 's3://bucket/out'


@pytest.mark.parametrize(
    'command',
    [
        ('view', 'labels', 'images', IN_A_BUCKET),
        ('convert', 'labels', 'labels', IN_A_BUCKET),
        ('convert', 'dino', 'images/000.png', IN_A_BUCKET),
        ('merge_labels', 'labels', 'labels', IN_A_BUCKET),
        ('detect', 'images', '--model', 'owner/repo', '--out', IN_A_BUCKET),
        ('explain', MASKCUT, 'images/000.png', '--out', IN_A_BUCKET),
        ('score', 'labels', 'truth.json', '--plot', IN_A_BUCKET),
        ('generate', MASKCUT, 'images', 'new', '--profile', IN_A_BUCKET),
        ('browse', TRAINING, '--out', IN_A_BUCKET),
        ('download', 'owner/repo', '--out', IN_A_BUCKET),
    ],
    ids=lambda command: command[0],
)
def test_what_is_written_on_this_machine_only_is_refused_in_a_bucket_with_one_line(
    cuts3d, tmp_path, monkeypatch, command
):
    write_labelled_images(tmp_path)
    (tmp_path / 'truth.json').write_text('{}')
    before = content(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, _, err = cuts3d(*command)
    assert code == 2 and f'must be a path on this machine, got {IN_A_BUCKET}; write' in err
    assert err.count('\n') == 1 and content(tmp_path) == before


@pytest.mark.parametrize(
    'command',
    [
        ('view', 'labels', 'images'),
        ('merge_labels', 'labels', 'labels'),
        ('name', 'labels', 'truth.json'),
        ('group', 'labels', 'images', '--features', MASKCUT),
        ('evaluate_suite', TRAINING, 'truth.json', 'images'),
        ('prepare', 'voc', 'images'),
        ('generate', MASKCUT, 'images'),
        ('depth', 'images'),
        ('learn', 'images'),
        ('demo',),
    ],
    ids=lambda command: command[0],
)
def test_a_file_in_the_place_of_a_folder_to_write_is_refused_with_one_line(
    cuts3d, tmp_path, monkeypatch, command
):
    write_labelled_images(tmp_path)
    (tmp_path / 'truth.json').write_text('{}')
    monkeypatch.chdir(tmp_path)
    code, _, err = cuts3d(*command, 'truth.json')
    assert code == 2 and 'OUT must be a folder, got truth.json; ' in err and err.count('\n') == 1


@pytest.mark.slow
def test_generate_on_a_full_disk_ends_in_one_line_and_resumes(cuts3d, images, tmp_path):
    arguments = ('--workers', 0, *QUICK)
    assert cuts3d('generate', MASKCUT, images, tmp_path / 'whole', *arguments)[0] == 0
    with room_for(2000):
        code, _, err = cuts3d('generate', MASKCUT, images, tmp_path / 'out', *arguments)
    assert code == 2 and 'is not written; make room, then run the same command again' in err
    assert err.count('\n') == 2 and 'loading' in err  # and what it said when it began
    assert {path.name for path in (tmp_path / 'out').iterdir()} <= {'run.json', 'images.arrow'}
    assert cuts3d('generate', MASKCUT, images, tmp_path / 'out', *arguments)[0] == 0
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')


def writers(tmp_path, images):
    """Commands that write a file or folder, and what that is."""
    store, truth = tmp_path / 'labels', tmp_path / 'truth.json'
    score = ('score', store, truth)
    return {
        'export': (('export', store, tmp_path / 'new.json'), 'new.json'),
        'convert': (('convert', 'labels', truth, tmp_path / 'new'), 'new'),
        'json': ((*score, '--json', tmp_path / 'new.json'), 'new.json'),
        'plot': ((*score, '--plot', tmp_path / 'new.png'), 'new.png'),
        'view': (('view', store, images, tmp_path / 'new'), 'new'),
        'explain': (
            ('explain', MASKCUT, images / '000.png', '--out', tmp_path / 'new.png', *QUICK),
            'new.png',
        ),
        'merge_labels': (('merge_labels', store, store, tmp_path / 'new'), 'new'),
    }


@pytest.mark.parametrize(
    'name', ['export', 'convert', 'json', 'plot', 'view', 'explain', 'merge_labels']
)
def test_a_full_disk_leaves_no_half_file(cuts3d, tmp_path, name):
    write_labelled_images(tmp_path)
    assert cuts3d('export', tmp_path / 'labels', tmp_path / 'truth.json')[0] == 0
    command, written = writers(tmp_path, tmp_path / 'images')[name]
    before = content(tmp_path)
    # MMEngine copies configs to temporary files, which must have room.
    with room_for(3000 if name == 'explain' else 100):
        code, _, err = cuts3d(*command)
    assert code == 2 and err.count('\n') == 1, err
    assert 'make room, then run the same command again' in err
    assert content(tmp_path) == before
    assert cuts3d(*command)[0] == 0
    assert (tmp_path / written).exists()


@pytest.mark.slow
def test_detect_on_a_full_disk_leaves_no_half_file(cuts3d, detector, tmp_path, rng):
    out = tmp_path / 'out'
    write_images(tmp_path / 'large', 1, rng, (400, 620))
    arguments = ('detect', tmp_path / 'large', *detector, '--out', out, '--score-thr', 0)
    with room_for(30_000):
        code, _, err = cuts3d(*arguments)
    assert code == 2 and 'make room, then run the same command again' in err, err
    left = {path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file()}
    assert not any(name.startswith('pictures/') or 'partial' in name for name in left)
    assert cuts3d(*arguments)[0] == 0


def test_a_folder_that_is_removed_meanwhile_is_named_in_one_line(
    cuts3d, images, tmp_path, monkeypatch
):
    out = tmp_path / 'out'
    written = atomic._temporary_path

    def remove_then_write(path):
        if path.name.startswith('labels-'):
            shutil.rmtree(out, ignore_errors=True)
        return written(path)

    monkeypatch.setattr(atomic, '_temporary_path', remove_then_write)
    arguments = ('generate', MASKCUT, images, out, '--workers', 0, *QUICK)
    code, _, err = cuts3d(*arguments)
    assert code == 2 and f'folder {out} must exist to write labels-000000.parquet' in err
    assert err.count('\n') == 2 and 'loading' in err and not out.exists()
    monkeypatch.undo()


def test_a_path_that_leads_nowhere_is_no_shipped_config(cuts3d, images, tmp_path):
    shipped = find_config('maskcut_color-texture.py')
    assert find_config('maskcut_color-texture') == shipped == find_config(str(shipped))
    for name in (f'/no/such/dir/{shipped.name}', f'./{shipped.name}', 'configs/x.py', '', 'none'):
        with pytest.raises(ValueError, match='CONFIG must be a file or a shipped config'):
            find_config(name)
    code, _, err = cuts3d('generate', f'/no/such/dir/{shipped.name}', images, tmp_path / 'out')
    assert code == 2 and 'CONFIG must be a file' in err and not (tmp_path / 'out').exists()
