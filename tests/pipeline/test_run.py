from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import MASKCUT, cuts3d_model, write_depths, write_images
from helpers.runs import content, label
from helpers.stand_in_labellers import Blind
from mmengine.config import Config
from PIL import Image

from cuts3d_mm.files.atomic import ProcessMark
from cuts3d_mm.files.stored_run import RunMismatch
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.store import Counts, read_store, shard_paths
from cuts3d_mm.pipeline.identity import FORMAT
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.run import Split, images_per_shard, shard_starts
from cuts3d_mm.pipeline.work import BuiltLabeller, ConfiguredLabeller, Worker


@pytest.fixture
def folder(tmp_path, rng):
    write_images(tmp_path / 'images', 20, rng)
    return tmp_path / 'images'


def run(folder, out, workers=0, model=MASKCUT, **options):
    executor = LocalExecutor(workers)
    return label(folder, out, ConfiguredLabeller(model), executor, **options)


def test_every_image_is_accounted_for(folder, tmp_path):
    (folder / 'a/000.png').write_bytes(b'')
    counts, log = run(folder, tmp_path / 'out')
    assert counts == log.counts and counts.images == log.total == 20 and counts.failures == 1
    records = list(read_store(tmp_path / 'out'))
    assert [record.name for record in records] == list(list_images(folder).names)
    assert 'a/000.png' in (tmp_path / 'out/failures.jsonl').read_text()


def test_a_part_that_fails_leaves_the_folder_to_the_other_parts(folder, tmp_path):
    model = {**MASKCUT, 'features': {'type': 'cuts3d_mm.ColorTextureFeatures', 'no_such': 1}}
    for split, is_kept in (('0/1', False), ('0/2', True)):
        with pytest.raises(ValueError, match='no_such'):
            run(folder, tmp_path / 'out', model=model, split=split)
        assert (tmp_path / 'out/run.json').is_file() == is_kept


class Full:
    """A labeller for which memory runs out at one image."""

    def predict_batch(self, images):
        if images[0].name == 'a/003.png':
            raise MemoryError
        return [() for _ in images]


def test_an_image_for_which_memory_ran_out_is_tried_again(folder, tmp_path, caplog):
    def resume(labeller):
        return label(folder, tmp_path / 'out', BuiltLabeller(labeller, {}))[0]

    (folder / 'a/008.png').write_bytes(b'broken')
    assert resume(Full()).failures == 2
    before = content(tmp_path / 'out')
    assert resume(Blind()).failures == 1
    assert 'labels-000000.parquet must be made again: memory ran out' in caplog.text
    changed = [name for name, found in content(tmp_path / 'out').items() if found != before[name]]
    assert changed == ['labels-000000.parquet']


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(folder, tmp_path):
    for workers in (0, 1, 2):
        run(folder, tmp_path / f'out{workers}', workers)
    first = content(tmp_path / 'out0')
    assert first and first == content(tmp_path / 'out1') == content(tmp_path / 'out2')


@pytest.mark.slow
def test_parts_together_equal_the_whole(folder, tmp_path):
    run(folder, tmp_path / 'whole')
    for part in range(3):
        run(folder, tmp_path / 'parts', split=f'{part}/3')
    assert content(tmp_path / 'parts') == content(tmp_path / 'whole')


@pytest.mark.slow
def test_a_missing_shard_is_made_again(folder, tmp_path):
    out = tmp_path / 'out'
    run(folder, out)
    whole = content(out)
    shard_paths(out)[1].unlink()
    earlier = replace(ProcessMark.of_this_process(), started=1)
    (out / f'.labels-000001.parquet.{earlier}.0.partial').write_bytes(b'half')
    counts, log = run(folder, out)
    assert content(out) == whole and not list(out.glob('.*partial'))
    assert log.resumed.images == 12 and counts.images == 20


def test_a_finished_run_does_nothing(folder, tmp_path):
    run(folder, tmp_path / 'out')
    counts, log = run(folder, tmp_path / 'out')
    assert log.resumed == counts and counts.images == 20


@pytest.mark.parametrize('count', [2, 16])
def test_a_run_of_the_first_images_grows_to_the_bytes_of_a_run_of_all(
    folder, tmp_path, caplog, count
):
    run(folder, tmp_path / 'whole')
    run(folder, tmp_path / 'out', limit=count)
    counts, log = run(folder, tmp_path / 'out')
    kept = count // 8 * 8
    assert f'grows from {count} to 20 images; {kept} keep their labels' in caplog.text
    assert counts.images == 20 and log.resumed.images == kept
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')
    with pytest.raises(RunMismatch, match=r'fewer: .*--limit'):  # it does not shrink
        run(folder, tmp_path / 'out', limit=count)


def test_a_run_whose_images_have_changed_does_not_grow(folder, tmp_path):
    run(folder, tmp_path / 'out', limit=8)
    before = content(tmp_path / 'out')
    (folder / 'a/000.png').write_bytes(b'')
    with pytest.raises(RunMismatch, match='1 image changed: a/000.png'):
        run(folder, tmp_path / 'out')
    assert content(tmp_path / 'out') == before


def test_another_config_is_refused(folder, tmp_path):
    run(folder, tmp_path / 'out')
    with pytest.raises(RunMismatch, match='model.input_hw'):
        run(folder, tmp_path / 'out', model={**MASKCUT, 'input_hw': (64, 64)})


def test_a_missing_depth_map_fails_only_its_image(folder, tmp_path, rng):
    names = list_images(folder).names
    write_depths(tmp_path / 'depth', names[1:], rng)
    model = cuts3d_model(tmp_path / 'depth')
    counts, _ = run(folder, tmp_path / 'out', model=model, batch_size=4)
    assert counts.failures == 1
    failed = next(record for record in read_store(tmp_path / 'out') if record.failure)
    assert failed.name == names[0] and 'no depth map' in failed.failure


def test_a_depth_map_that_lies_the_other_way_fails_only_its_image(folder, tmp_path, rng):
    names = list_images(folder).names
    write_depths(tmp_path / 'depth', names, rng)
    path = (tmp_path / 'depth' / names[2]).with_suffix('.npy')
    np.save(path, np.load(path).T)
    model = cuts3d_model(tmp_path / 'depth')
    counts, _ = run(folder, tmp_path / 'out', model=model, batch_size=4)
    assert counts.failures == 1
    failed = next(record for record in read_store(tmp_path / 'out') if record.failure)
    assert failed.name == names[2] and f'depth map {path}: depth must lie as' in failed.failure


@pytest.mark.parametrize('kind', ['constant', 'invalid', 'other size'])
def test_unusual_depth_maps_are_handled(tmp_path, rng, kind):
    (name,) = write_images(tmp_path / 'images', 1, rng)
    write_depths(tmp_path / 'depth', [name], rng)
    depth = {
        'constant': np.full((20, 30), 2.0),
        'invalid': np.full((20, 30), np.nan),
        'other size': np.random.default_rng(1).uniform(1, 2, (7, 300)),
    }[kind]
    np.save((tmp_path / 'depth' / name).with_suffix('.npy'), depth)
    model = cuts3d_model(tmp_path / 'depth')
    counts, _ = run(tmp_path / 'images', tmp_path / 'out', model=model)
    assert counts.failures == (kind == 'invalid')


def odd_images(rng):
    rgb = rng.integers(0, 256, (40, 61, 3), dtype=np.uint8)
    yield 'grey.png', Image.fromarray(rgb[..., 0])
    yield 'rgba.png', Image.fromarray(np.dstack([rgb, rgb[..., 0]]))
    yield 'palette.gif', Image.fromarray(rgb).quantize(16)
    yield 'cmyk.jpg', Image.fromarray(rgb).convert('CMYK')
    yield 'deep.png', Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    yield 'one.png', Image.fromarray(rgb[:1, :1])
    yield 'line.png', Image.fromarray(np.tile(rgb[:1], (1, 82, 1))[:, :5000])


def test_odd_images_are_labelled_in_their_own_pixel_grid(tmp_path, rng):
    folder = tmp_path / 'images'
    folder.mkdir()
    sizes = {}
    for name, image in odd_images(rng):
        image.save(folder / name)
        sizes[name] = image.size[::-1]
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(rng.integers(0, 256, (40, 61, 3), dtype=np.uint8)).save(
        folder / 'turned.jpg', exif=exif
    )
    sizes['turned.jpg'] = (40, 61)
    counts, _ = run(folder, tmp_path / 'out')
    assert counts.failures == 0
    assert {record.name: record.image_hw for record in read_store(tmp_path / 'out')} == sizes


@pytest.mark.slow
def test_a_hundred_megapixels_stay_within_memory(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    tile = np.zeros((100, 100, 3), np.uint8)
    tile[20:70, 30:80] = (200, 50, 50)
    picture = Image.fromarray(tile).resize((10_000, 10_000), Image.Resampling.NEAREST)
    picture.save(folder / 'large.jpg')
    del picture
    counts, _ = run(folder, tmp_path / 'out', workers=1)
    assert counts.failures == 0
    assert next(read_store(tmp_path / 'out')).image_hw == (10_000, 10_000)


def test_shards_do_not_depend_on_the_number_of_workers():
    assert images_per_shard(60) == 8
    assert images_per_shard(1_300_000) == [64, 16, 8]
    assert images_per_shard(100_000) == [50, 12, 8]
    assert images_per_shard(14_000_000) == [200, 50, 12]
    assert images_per_shard(60, batch_size=32) == 32 and images_per_shard(60, batch_size=2) == 8
    assert images_per_shard(1_300_000, batch_size=32) == [64, 32]
    assert len(shard_starts(14_000_000, [200, 50, 12])) < 100_000


def test_the_last_tenth_of_the_images_is_cut_into_small_shards():
    assert shard_starts(20, 8) == [0, 8, 16] and shard_starts(0, [8, 2]) == []
    assert shard_starts(41, [8, 2]) == [0, 8, 16, 24, 32, 34, 36, 38, 40]
    assert shard_starts(200, [60, 9, 3]) == [0, 60, 120, 180, 189, 198]


@pytest.mark.slow
@pytest.mark.parametrize(('size', 'resumed'), [(11, 11), ([11, 3], 17)])
def test_a_store_with_shards_of_another_size_goes_on_with_them(
    folder, tmp_path, monkeypatch, size, resumed
):
    monkeypatch.setattr('cuts3d_mm.pipeline.run.images_per_shard', lambda *_: size)
    run(folder, tmp_path / 'whole')
    run(folder, tmp_path / 'out')
    monkeypatch.undo()
    shard_paths(tmp_path / 'out')[1].unlink()
    counts, log = run(folder, tmp_path / 'out')
    assert log.resumed.images == resumed and counts.images == 20
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')


@pytest.mark.parametrize('text', ['1', '2/2', '-1/2', 'a/b', '0/0', ''])
def test_malformed_splits_are_refused(text):
    with pytest.raises(ValueError, match='--part must be I/N'):
        Split.parse(text)


def test_counts_add_up():
    assert Counts(1, 2, 0) + Counts(3, 1, 1) == Counts(4, 3, 1)


class Backwards:
    """An executor of its own kind: the last shard first, each with a new worker."""

    def label(self, order, shards):
        for index, names in reversed(shards):
            yield from Worker(order).label([(index, names)])


@pytest.mark.slow
def test_another_executor_gives_the_same_bytes(folder, tmp_path):
    counts, _ = run(folder, tmp_path / 'out')
    other, _ = label(folder, tmp_path / 'other', ConfiguredLabeller(MASKCUT), Backwards())
    assert other == counts
    assert content(tmp_path / 'other') == content(tmp_path / 'out')


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_a_labeller_that_is_built_already_labels_under_its_identity(folder, tmp_path, workers):
    def count(identity):
        source, executor = BuiltLabeller(Blind(), identity), LocalExecutor(workers)
        return label(folder, tmp_path / 'out', source, executor, batch_size=4)[0]

    assert count({'weights': 'a'}) == Counts(20, 0, 0) == count({'weights': 'a'})
    with pytest.raises(RunMismatch, match="model.weights: 'a' -> 'b'"):
        count({'weights': 'b'})


def test_a_run_that_fails_before_the_first_image_can_be_corrected_in_its_folder(tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    wrong = {**MASKCUT, 'features': {'type': 'no_such_package.Features'}}
    with pytest.raises(ValueError, match='no_such_package'):
        run(tmp_path / 'images', tmp_path / 'out', model=wrong)
    assert run(tmp_path / 'images', tmp_path / 'out')[0].images == 2


STORES = Path(__file__).parents[1] / 'data' / 'stores'  # each lacks its second shard


def resume(out, **changes):
    model = {**Config.fromfile(STORES / 'config.py').model.to_dict(), **changes}
    counts, log = run(STORES / 'images', out, model=model)
    return counts, log.resumed


@pytest.mark.parametrize('number', range(1, FORMAT + 1))
def test_a_store_of_each_format_is_read_exported_and_continued(number, tmp_path, cuts3d):
    out, exported = tmp_path / 'out', tmp_path / 'labels.json'
    shutil.copytree(STORES / f'format{number}', out)
    before = list(read_store(out))
    assert len(before) == 8 and sum(len(record.instances) for record in before) == 8
    code, _, err = cuts3d('export', out, exported)
    assert code == 0, err
    found = [(record.name, [one.rle for one in record.instances]) for record in before]
    again = [
        (record.name, [one.rle for one in record.instances]) for record in read_coco(exported)
    ]
    assert again == found
    assert resume(out) == (Counts(9, 9, 0), Counts(8, 8, 0))
    assert list(read_store(out))[:8] == before
    assert json.loads((out / 'run.json').read_text())['format'] == max(number, 2)
    with pytest.raises(RunMismatch, match=r'model\.recipe\.ncut\.tau_ncut: 0.15 -> 0.5'):
        resume(out, recipe={'preset': 'maskcut', 'ncut': {'tau_ncut': 0.5}})


def test_a_shard_that_lies_in_the_place_of_another_is_made_again(folder, tmp_path, caplog):
    run(folder, tmp_path / 'out')
    whole = content(tmp_path / 'out')
    first, second, _ = shard_paths(tmp_path / 'out')
    shutil.copyfile(first, second)
    counts, log = run(folder, tmp_path / 'out')
    assert content(tmp_path / 'out') == whole
    assert log.resumed.images == 12 and counts.images == 20
    assert f'{second} must be whole' in caplog.text and 'made again now' in caplog.text


@pytest.mark.parametrize('size', [4, 16])
def test_a_changed_shard_size_is_noticed_and_changes_nothing(folder, tmp_path, size, caplog):
    run(folder, tmp_path / 'out')
    path, whole = tmp_path / 'out/run.json', content(tmp_path / 'out')
    stored = json.loads(path.read_text())
    stored['identity']['images_per_shard'] = size
    path.write_text(json.dumps(stored))
    run(folder, tmp_path / 'out')
    assert f'{path} must have the checksum' in caplog.text
    assert content(tmp_path / 'out') == whole
    assert json.loads(path.read_text())['identity']['images_per_shard'] == 8


def test_a_shard_of_another_run_is_refused_by_readers_and_made_again(folder, tmp_path, caplog):
    run(folder, tmp_path / 'out')
    run(folder, tmp_path / 'other', model={**MASKCUT, 'input_hw': (64, 64)})
    whole = content(tmp_path / 'out')
    shutil.copyfile(*(shard_paths(tmp_path / name)[1] for name in ('other', 'out')))
    with pytest.raises(ValueError, match='labels-000001.parquet is of another run than labels-00'):
        list(read_store(tmp_path / 'out'))
    run(folder, tmp_path / 'out')
    assert content(tmp_path / 'out') == whole and 'is a shard of another' in caplog.text
    shard_paths(tmp_path / 'out')[2].unlink()
    assert len(list(read_store(tmp_path / 'out'))) == 16
    assert 'holds 16 of the 20 images of its run' in caplog.text
