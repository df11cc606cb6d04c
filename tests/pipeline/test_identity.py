"""What makes two runs the same run, and what a run says where they are not."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from threading import Barrier

import pytest

from cuts3d_mm.files.stored_run import RunMismatch
from cuts3d_mm.images.listing import ImageList, list_images
from cuts3d_mm.images.reading import digest_file, open_named_image
from cuts3d_mm.labellers.registry import resolve_config
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import RunMark, write_shard
from cuts3d_mm.pipeline.devices import choose_batch_size
from cuts3d_mm.pipeline.identity import FORMAT, RunIdentity, stat_images

MODEL = {'type': 'cuts3d_mm.PseudoLabelGenerator', 'features': {'type': 'mmpretrain.X', 'a': 1}}
MODEL = {**MODEL, 'depth': {'type': 'cuts3d_mm.DepthFromFile', 'root': 'd'}}


CPU = {'device': 'cpu', 'batch_size': 1}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for number, name in enumerate('abcdef'):
        (folder / f'{name}.jpg').write_bytes(b'x' * (number + 10))
        os.utime(folder / f'{name}.jpg', (1000 + number, 1000 + number))
    return list_images(folder)


def claim(out, images, extraction=CPU, **changes):
    out.mkdir(exist_ok=True)
    images = list_images(images.root)
    identity = RunIdentity.of(resolve_config({**MODEL, **changes}), images, 8, extraction)
    run, _ = identity.claim(out, images)
    (out / 'mark.json').write_text(json.dumps(run.mark and asdict(run.mark)))
    return json.loads((out / 'run.json').read_text())


def older(content):
    """A run.json as format 2 has it, without a checksum."""
    return {key: content[key] for key in ('identity', 'versions')} | {'format': 2}


def label(out, images):
    """Write labels of images as they are now."""
    digests = {}
    for name in images.names:
        with open_named_image(images.root, name) as file:
            digests[name] = digest_file(file)
    mark = RunMark(**json.loads((out / 'mark.json').read_text()))
    records = [ImageRecord(name, (8, 9), (), None, digest) for name, digest in digests.items()]
    write_shard(out, 0, records, mark=mark)


def test_the_same_run_may_continue(images, tmp_path):
    first = claim(tmp_path / 'out', images)
    assert claim(tmp_path / 'out', images) == first
    assert first['format'] == FORMAT and 'cuts3d_mm' not in first['identity']
    assert {'cuts3d_mm', 'torch'} <= set(first['versions'])


def test_defaults_that_are_written_out_are_the_same_run(images, tmp_path):
    claim(tmp_path / 'out', images)
    recipe = {'preset': 'cuts3d', 'max_instances': 10}
    claim(tmp_path / 'out', images, recipe=recipe, input_hw=(480, 480))


def test_weights_of_a_digest_may_lie_elsewhere(images, tmp_path):
    for checkpoint in ('here.pth', 'there.pth'):
        claim(tmp_path / 'out', images, checkpoint=checkpoint, weights_sha256='a' * 64)
    with pytest.raises(RunMismatch, match='model.weights_sha256: aaaaaaaaaaaa'):
        claim(tmp_path / 'out', images, checkpoint='here.pth', weights_sha256='b' * 64)
    claim(tmp_path / 'unknown', images, checkpoint='here.pth')
    with pytest.raises(RunMismatch, match='model.checkpoint'):
        claim(tmp_path / 'unknown', images, checkpoint='there.pth')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'recipe': {'importance': None}}, r'model\.recipe\.importance: {.*} -> None'),
        ({'recipe': {'max_instances': 9}}, r'model\.recipe\.max_instances: 10 -> 9; choose'),
        ({'input_hw': (64, 64)}, r'model\.input_hw: \[480, 480\] -> \[64, 64\]'),
        ({'features': {'type': 'mmpretrain.X'}}, r"model\.features\.a: 1 -> 'not set'"),
        ({'features': {'type': 'mmpretrain.X', 'a': None}}, r'model\.features\.a: 1 -> None'),
    ],
)
def test_other_settings_are_refused_naming_them(images, tmp_path, change, message):
    claim(tmp_path / 'out', images)
    with pytest.raises(RunMismatch, match=message):
        claim(tmp_path / 'out', images, **change)


def test_images_that_came_went_or_changed_are_named(images, tmp_path):
    claim(tmp_path / 'out', images)
    label(tmp_path / 'out', images)
    (images.root / 'x.jpg').write_bytes(b'new')
    (images.root / 'c.jpg').unlink()
    (images.root / 'a.jpg').write_bytes(b'y' * 1300)
    (images.root / 'b.jpg').write_bytes(b'y' * 11)  # its size as before
    with pytest.raises(RunMismatch) as refusal:
        claim(tmp_path / 'out', images)
    message = str(refusal.value)
    assert '1 image more: x.jpg;' in message and '1 image fewer: c.jpg;' in message
    assert '2 images changed: a.jpg (size 10 -> 1300 bytes), b.jpg (time 1970-' in message


def test_a_file_outside_of_the_folder_that_a_list_names_is_not_looked_at(images, tmp_path):
    (tmp_path / 'secret.jpg').write_bytes(b'a')
    names = ('../secret.jpg', str(tmp_path / 'secret.jpg'), *images.names)
    stats = stat_images(ImageList(images.root, names))
    assert stats.size.tolist() == [-1, -1, 10, 11, 12, 13, 14, 15]


def test_of_different_runs_that_begin_at_the_same_moment_one_has_the_folder(
    images, tmp_path, monkeypatch
):
    together = Barrier(8)

    def stats_at_the_same_moment(listed):
        found = stat_images(listed)
        together.wait(60)
        return found

    def is_ours(number):
        with suppress(RunMismatch):
            return claim(tmp_path / 'out', images, input_hw=(480, 8 + number))
        return None

    monkeypatch.setattr('cuts3d_mm.pipeline.identity.stat_images', stats_at_the_same_moment)
    with ThreadPoolExecutor(8) as pool:
        (ours,) = filter(None, pool.map(is_ours, range(8)))
    assert json.loads((tmp_path / 'out/run.json').read_text()) == ours


def test_many_changes_are_counted(images, tmp_path):
    claim(tmp_path / 'out', images)
    for name in images.names[:5]:
        (images.root / name).unlink()
    with pytest.raises(RunMismatch, match='5 images fewer: a.jpg, b.jpg, c.jpg and 2 others'):
        claim(tmp_path / 'out', images)


def test_a_copy_of_the_images_may_continue_and_is_known_from_then_on(images, tmp_path):
    claim(tmp_path / 'out', images)
    copy = tmp_path / 'copy'
    copy.mkdir()
    for name in images.names:
        (copy / name).write_bytes((images.root / name).read_bytes())
    label(tmp_path / 'out', images)
    moved = ImageList(copy, images.names)
    claim(tmp_path / 'out', moved)
    os.utime(copy / 'd.jpg', (5, 5))  # the same picture
    claim(tmp_path / 'out', moved)
    (copy / 'd.jpg').write_bytes(b'y' * 13)
    with pytest.raises(RunMismatch, match='1 image changed: d.jpg'):
        claim(tmp_path / 'out', moved)


def test_images_that_were_replaced_throughout_by_others_of_the_same_size_are_named(
    images, tmp_path
):
    claim(tmp_path / 'out', images)
    label(tmp_path / 'out', images)
    for name in images.names:
        (images.root / name).write_bytes(b'y' * (images.root / name).stat().st_size)
    with pytest.raises(RunMismatch, match='6 images changed: a.jpg .time 1970.* and 3 others'):
        claim(tmp_path / 'out', images)
    (tmp_path / 'out/images.arrow').unlink()
    with pytest.raises(RunMismatch, match=r'6 images changed: a.jpg \(its content\)'):
        claim(tmp_path / 'out', images)


def test_an_image_that_changed_before_it_was_labelled_is_no_change(images, tmp_path):
    claim(tmp_path / 'out', images)
    label(tmp_path / 'out', ImageList(images.root, images.names[:3]))
    (images.root / 'd.jpg').write_bytes(b'another')
    claim(tmp_path / 'out', images)


@pytest.mark.parametrize('damage', ['a digit', 'cut short'])
def test_a_damaged_run_file_is_made_again_from_the_shards(images, tmp_path, damage, caplog):
    path = tmp_path / 'out/run.json'
    claim(tmp_path / 'out', images)
    label(tmp_path / 'out', images)
    whole = path.read_bytes()
    damaged = whole.replace(b'"images_per_shard": 8', b'"images_per_shard": 9')
    path.write_bytes(damaged if damage == 'a digit' else whole[:-20])
    with pytest.raises(RunMismatch, match='the run that its shards name'):
        claim(tmp_path / 'out', images, input_hw=(64, 64))
    assert choose_batch_size(tmp_path / 'out', 'cuda') == 1
    claim(tmp_path / 'out', images)
    assert path.read_bytes() == whole and 'made again from the shards' in caplog.text


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'must be the run.json of a label store'),
        (b'[]', 'must be the run.json of a label store, it is not'),
        (b'{"format": null}', 'must be the run.json of a label store, it is not'),
        (b'{}', 'must be the run.json of a label store, it is not'),
        (b'{"identity": [1]}', 'must be the run.json of a label store'),
        (b'{"format": 2, "ident', 'must be the run.json of a label store'),
        (b'\xff\xfe{}', 'must be the run.json of a label store'),
        (b'[' * 100_000, 'must be the run.json of a label store'),
        (b'{"format": 99}', 'must have a format up to 3, it has 99; a later version'),
    ],
)
def test_a_damaged_or_later_run_file_is_refused(images, tmp_path, content, message):
    (tmp_path / 'run.json').write_bytes(content)
    with pytest.raises(RunMismatch, match=message):
        claim(tmp_path, images)


def test_another_device_or_batch_size_is_another_run(images, tmp_path):
    claim(tmp_path / 'out', images)
    for key, value in (('device', 'cuda'), ('batch_size', 4)):
        with pytest.raises(RunMismatch, match=f'extraction.{key}: .* -> {value!r}'):
            claim(tmp_path / 'out', images, {**CPU, key: value})


def test_a_store_that_does_not_say_how_its_networks_ran_is_continued(images, tmp_path):
    path = tmp_path / 'out/run.json'
    content = older(claim(tmp_path / 'out', images))
    del content['identity']['extraction']
    path.write_text(json.dumps(content))
    other = {'device': 'cuda', 'batch_size': 4}
    assert claim(tmp_path / 'out', images, other)['identity']['extraction'] == other
    with pytest.raises(RunMismatch, match='extraction.device'):  # from now on it says so
        claim(tmp_path / 'out', images)


@pytest.mark.parametrize('value', [None, [1], {'batch_size': 0}, {'batch_size': True}])
def test_a_store_whose_extraction_means_nothing_is_refused(images, tmp_path, value):
    path = tmp_path / 'out/run.json'
    content = older(claim(tmp_path / 'out', images))
    content['identity']['extraction'] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RunMismatch, match='extraction with a batch_size above 0'):
        claim(tmp_path / 'out', images)


# The LocalCut of the former `paper`, as `run.json` holds it.
FORMER_LOCAL_CUT = {
    **{'neighborhood': 'knn', 'tau_knn': 0.115, 'num_neighbors': 10, 'capacity': 'distance'},
    **{'depth_step': 0.03, 'eigenvector_step': 0.2, 'terminals': 'single'},
    **{'terminal_fraction': 0.01, 'outside': 'drop', 'evidence': None},
}


def test_labels_of_the_former_paper_are_refused_and_continue_as_the_letter(images, tmp_path):
    out = tmp_path / 'out'
    claim(out, images, recipe={'preset': 'paper_letter'})
    stored = older(json.loads((out / 'run.json').read_text()))
    stored['identity']['model']['recipe']['local_cut'] = FORMER_LOCAL_CUT
    (out / 'run.json').write_text(json.dumps(stored))
    with pytest.raises(RunMismatch, match=r"capacity: 'distance' -> 'affinity'"):
        claim(out, images, recipe={'preset': 'paper'})
    claim(out, images, recipe={'preset': 'paper_letter'})
