"""Images and labels in a bucket give what those on a local disk give."""

from __future__ import annotations

import json
import shutil
from signal import SIGINT, SIGKILL

import numpy as np
import pytest
from helpers.commands import output_of, start, stop, wait_until
from helpers.drawn import write_images, write_labelled_images

import cuts3d_mm
from cuts3d_mm.files import remote

pytest.importorskip('moto')
from helpers.servers import serve_bucket  # noqa: E402

MASKCUT = 'maskcut_color-texture'
QUICK = ('--cfg-options', 'model.input_hw=(64,64)')
IMAGES, LABELS = 's3://cuts3d/images', 's3://cuts3d/labels'


@pytest.fixture
def bucket():
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture(scope='module')
def local(tmp_path_factory):
    """Images, one of them broken, and the labels of a local run."""
    folder = tmp_path_factory.mktemp('local')
    write_images(folder / 'images', 20, np.random.default_rng(0))
    (folder / 'images/b/003.png').write_bytes(b'broken')
    return folder


@pytest.fixture
def stored(cuts3d, local):
    """What a local run writes."""
    out = local / 'labels'
    if not out.exists():
        arguments = (local / 'images', out, '--workers', 0, '--max-failures', 1)
        assert cuts3d('generate', MASKCUT, *arguments, *QUICK)[0] == 0
    return {p.name: p.read_bytes() for p in out.iterdir() if not p.name.startswith('.')}


def generate(cuts3d, images=IMAGES, out=LABELS, workers=0):
    arguments = (images, out, '--workers', workers, '--max-failures', 1)
    return cuts3d('generate', MASKCUT, *arguments, *QUICK)


def facts(files):
    """All files but the list of images, which holds the times of the upload."""
    return {name: content for name, content in files.items() if name != 'images.arrow'}


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_in_a_bucket_writes_the_bytes_of_a_local_run(cuts3d, bucket, local, stored, workers):
    bucket.put_folder(local / 'images', 'images')
    code, out, err = generate(cuts3d, workers=workers)
    assert code == 0 and out.endswith('1 failures -> s3://cuts3d/labels\n'), err
    found = bucket.content('labels')
    assert facts(found) == facts(stored) and found.keys() == stored.keys()
    assert not any(
        request.startswith(('DELETE', 'PUT /cuts3d/labels/.')) for request in bucket.requests
    )


@pytest.mark.slow
def test_images_and_labels_may_lie_in_different_places(cuts3d, bucket, local, stored, tmp_path):
    bucket.put_folder(local / 'images', 'images')
    assert generate(cuts3d, out=tmp_path / 'out')[0] == 0
    left = {p.name: p.read_bytes() for p in (tmp_path / 'out').iterdir() if p.suffix == '.parquet'}
    assert left.items() <= stored.items() and left
    assert generate(cuts3d, images=f'file://{local}/images')[0] == 0
    assert facts(bucket.content('labels')) == facts(stored)


@pytest.mark.slow
def test_only_missing_and_damaged_shards_are_made_again(cuts3d, bucket, local, stored):
    bucket.put_folder(local / 'images', 'images')
    assert generate(cuts3d)[0] == 0
    bucket.delete('labels/labels-000001.parquet')
    bucket.put('labels/labels-000002.parquet', b'PAR1 and nothing else')
    bucket.requests.clear()
    code, _, err = generate(cuts3d)
    assert code == 0 and facts(bucket.content('labels')) == facts(stored), err
    uploads = {line.split('?')[0] for line in bucket.requests if line.startswith(('PUT', 'POST'))}
    names = {line.rpartition('/')[2] for line in uploads}
    assert names == {
        'labels-000001.parquet',
        'labels-000002.parquet',
        'failures.jsonl',
        'run.json',
    }


@pytest.mark.slow
def test_another_run_is_refused_and_a_changed_image_is_named(cuts3d, bucket, local):
    bucket.put_folder(local / 'images', 'images')
    assert generate(cuts3d)[0] == 0
    bucket.put('images/a/000.png', b'something else')
    code, _, err = generate(cuts3d)
    assert code == 2 and '1 image changed: a/000.png (size' in err
    other = ('--cfg-options', 'model.input_hw=(96,96)')
    code, _, err = cuts3d('generate', MASKCUT, IMAGES, LABELS, '--workers', 0, *other)
    assert code == 2 and 's3://cuts3d/labels holds labels of another run' in err


def test_hostile_names_are_failures_on_record(cuts3d, bucket, local):
    bucket.put('images/good.png', (local / 'images/a/000.png').read_bytes())
    names = ['../up.png', 'a//b.png', './c.png', 'line\nbreak.png', 'back\\..\\slash.png']
    for name in names:
        bucket.put(f'images/{name}', (local / 'images/a/000.png').read_bytes())
    code, _, err = generate(cuts3d)
    assert code == 0, err
    records = {one.name: one for one in cuts3d_mm.read_labels(LABELS)}
    assert records.keys() == {'good.png', *names} and records['good.png'].failure is None
    for name in names:
        assert 'must stay inside its folder' in records[name].failure


@pytest.mark.slow
def test_lists_of_images_in_a_bucket_are_read(cuts3d, bucket, local):
    bucket.put_folder(local / 'images', 'data/images')
    bucket.put('data/list.txt', b'./images/a/000.png\ns3://cuts3d/data/images/b/001.png\nno.png\n')
    entries = [{'id': i, 'file_name': name} for i, name in enumerate(['a/000.png', 'b/001.png'])]
    bucket.put('data/set.json', json.dumps({'images': entries}).encode())
    assert generate(cuts3d, 's3://cuts3d/data/list.txt', 's3://cuts3d/one')[0] == 0
    failures = [(r.name, r.failure is None) for r in cuts3d_mm.read_labels('s3://cuts3d/one')]
    assert failures == [('images/a/000.png', True), ('images/b/001.png', True), ('no.png', False)]
    assert generate(cuts3d, 's3://cuts3d/data/set.json', 's3://cuts3d/two')[0] == 0
    assert all(record.failure is None for record in cuts3d_mm.read_labels('s3://cuts3d/two'))


@pytest.mark.slow
def test_labels_are_read_from_a_bucket_by_every_command(cuts3d, bucket, tmp_path):
    write_labelled_images(tmp_path)
    bucket.put_folder(tmp_path, 'set')
    places = {'local': tmp_path, 'bucket': 's3://cuts3d/set'}
    said, written = {}, {}
    for name, root in places.items():
        labels, images, out = f'{root}/labels', f'{root}/images', tmp_path / name
        assert cuts3d('export', labels, out.with_suffix('.json'))[0] == 0
        assert cuts3d('view', labels, images, out)[0] == 0
        drawn = (images, tmp_path / f'{name}-random', '--random', 2)
        assert cuts3d('view', labels, *drawn)[0] == 0
        truth = out.with_suffix('.json')
        said[name] = [
            cuts3d(*command)[:2]
            for command in (
                ('score', labels, truth),
                ('score', labels, truth, '--against', labels),
                ('describe', labels),
            )
        ]
        written[name] = [truth.read_bytes()] + [
            (path.relative_to(tmp_path / folder), path.read_bytes())
            for folder in (name, f'{name}-random')
            for path in sorted((tmp_path / folder).rglob('*.png'))
        ]
    assert said['local'] == said['bucket'] and written['local'] == written['bucket']
    assert cuts3d('export', 's3://cuts3d/set/labels', 's3://cuts3d/set/out.json')[0] == 0
    assert bucket.content('set')['out.json'] == written['local'][0]
    code, _, err = cuts3d('export', 's3://cuts3d/none', tmp_path / 'none.json')
    assert code == 2 and 's3://cuts3d/none must be a label store' in err


def test_a_bucket_that_stops_answering_makes_no_failure_of_an_image(
    cuts3d, bucket, local, monkeypatch
):
    monkeypatch.setattr(remote, '_ATTEMPTS', 1)
    bucket.put_folder(local / 'images', 'images')
    objects = type(bucket.objects)
    get = objects.get_object

    def answer(self, bucket_name, key_name, *rest, **named):
        if str(key_name).endswith('b/005.png'):
            raise RuntimeError('out of order')
        return get(self, bucket_name, key_name, *rest, **named)

    monkeypatch.setattr(objects, 'get_object', answer)
    code, _, err = generate(cuts3d)
    assert code == 2 and 'b/005.png cannot be reached' in err.splitlines()[-1]
    monkeypatch.setattr(objects, 'get_object', get)
    records = list(cuts3d_mm.read_labels(LABELS))
    assert records and {r.name for r in records if r.failure} <= {'b/003.png'}


def test_a_place_of_another_kind_is_one_line(cuts3d, local):
    for arguments in ((MASKCUT, 'gs://b/x', 'out'), (MASKCUT, local / 'images', 'gs://b/x')):
        code, _, err = cuts3d('generate', *arguments)
        assert code == 2 and 'must be a path, file:///PATH or s3://BUCKET/PREFIX' in err


@pytest.mark.slow
def test_a_stopped_run_in_a_bucket_goes_on(cuts3d, bucket, local, tmp_path):
    for copy in range(4):
        shutil.copytree(local / 'images', tmp_path / f'images/{copy}')
    bucket.put_folder(tmp_path / 'images', 'images')

    def run():
        options = ('--workers', 2, '--max-failures', 1, *QUICK)
        return start('generate', MASKCUT, IMAGES, LABELS, *options)

    def has_shards(count):
        return sum(name.startswith('labels-') for name in bucket.content('labels')) >= count

    process = run()
    assert wait_until(process, lambda: has_shards(1))
    output = stop(process, SIGINT)
    assert process.returncode == 130 and 'run the same command again to resume' in output
    process = run()
    assert wait_until(process, lambda: has_shards(3))
    stop(process, SIGKILL, whole_group=False)
    process = run()
    output = output_of(process)
    assert process.returncode == 0, output
    assert generate(cuts3d, out='s3://cuts3d/whole')[0] == 0
    assert facts(bucket.content('labels')) == facts(bucket.content('whole'))
