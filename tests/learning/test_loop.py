"""From a folder of images to a detector, and what happens at the second call."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from signal import SIGKILL

import numpy as np
import pytest
from helpers.commands import StartedFork, exit_code_of, output_of, start_fork, stop, wait_until
from helpers.drawn import disc
from helpers.servers import Repository
from helpers.training import (
    IMAGE_HW,
    INITIAL,
    ROUND,
    run_learn,
    same_weights,
    write_inputs,
    write_photos,
)

import cuts3d_mm
from cuts3d_mm.cli import one_line
from cuts3d_mm.engine.self_training import RoundFolders, read_kept
from cuts3d_mm.files.lock import FolderInUse
from cuts3d_mm.hub.client import HubError
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import read_store, write_store
from cuts3d_mm.learning import loop as steps
from cuts3d_mm.learning.loop import gather_labels
from cuts3d_mm.learning.plan import Folders, Request
from cuts3d_mm.learning.planning import look_at
from cuts3d_mm.learning.report import agreement
from cuts3d_mm.learning.training import TrainingFailed


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp('inputs'))


@pytest.fixture(scope='module')
def learned(root):
    """A run with one round of self-training."""
    said = run_learn(root, root / 'out', rounds=1)
    (root / 'out/said.txt').write_text('\n'.join(said))
    return root / 'out'


@pytest.mark.slow
def test_last_line_report_and_model_card_carry_the_verdict(learned, cuts3d):
    verdict = 'agrees with its labels to 0.00 % (mask AP50, '
    last = (learned / 'said.txt').read_text().splitlines()[-1]
    assert last.startswith(f'the detector in {learned / "release"} {verdict}')
    _, out, _ = cuts3d('publish', learned / 'release', '--repo', 'owner/name', '--dry-run')
    published = next(line.split()[-1] for line in out.splitlines() if 'README.md' in line)
    for page in (learned / 'report.html', learned / 'release/README.md', Path(published)):
        assert verdict in page.read_text() and 'not usable' in page.read_text()


@pytest.mark.slow
def test_the_release_can_be_published_as_it_is(learned, cuts3d):
    out = cuts3d.done('publish', learned / 'release', '--repo', 'owner/name', '--dry-run')
    assert 'owner/name would get' in out and 'model.safetensors' in out
    assert 'must agree with its own labels to 10 % (mask AP50), got 0.00 %' in out
    card = (learned / 'release/README.md').read_text()
    assert 'license: unknown' in card and '![What it finds' in card
    assert "load_detector('out/release')" in card and "load_from = 'out/release/model.pth'" in card
    (published,) = [line.split()[-1] for line in out.splitlines() if 'README.md' in line]
    again = Path(published).read_text()
    assert "load_detector('owner/name')" in again and '![What it finds' not in again
    for row in ('cut by `', 'trained on | ', 'agreement with its labels | 0.00 %'):
        assert row in card and row in again
    code, _, err = cuts3d('publish', learned / 'release', '--repo', 'owner/name')
    assert code == 2 and 'publish it all the same by --yes' in err
    code, _, err = cuts3d('publish', learned / 'plan.json', '--repo', 'owner/name')
    assert code == 2 and 'CONFIG and CHECKPOINT, or a release folder alone' in err


@pytest.mark.slow
def test_the_release_is_a_detector(learned):
    detector = cuts3d_mm.load_detector(learned / 'release', score_thr=0.0)
    found = detector.predict(np.zeros((*IMAGE_HW, 3), np.uint8))
    assert all(one.mask.shape == IMAGE_HW for one in found)


@pytest.mark.slow
def test_held_out_images_are_watched_and_not_trained_on(learned):
    trained_on = {record.name for record in read_store(learned / 'labels')}
    held_out = json.loads((learned / 'held_out.json').read_text())
    watched = {image['file_name'] for image in held_out['images']}
    assert watched and not watched & trained_on and len(watched | trained_on) == 6


def test_watched_labels_that_are_not_selected_are_neither_right_nor_wrong(tmp_path):
    folders, good, junk = (
        Folders(tmp_path),
        disc((15, 10), 8, IMAGE_HW),
        disc((15, 30), 8, IMAGE_HW),
    )
    both = tuple(encode_instance(mask, None, score) for mask, score in ((good, 0.9), (junk, 0.2)))
    write_store(folders.cut, [ImageRecord(f'{name}.png', IMAGE_HW, both) for name in 'abc'])
    gather_labels(folders, ('c.png',), '0.5')
    assert all(len(record.instances) == 2 for record in read_store(folders.labels))
    for found in (both, both[:1]):  # the floor of the image, detected or not
        write_store(tmp_path / str(len(found)), [ImageRecord('c.png', IMAGE_HW, found)])
    found = agreement(folders, [tmp_path / '1', tmp_path / '2'])
    assert [round(one['AP'], 4) for one in found] == [1, 1]
    shutil.rmtree(folders.labels)
    folders.held_out.unlink()
    with pytest.raises(ValueError, match='none of 4 has a score of 0.95 or more'):
        gather_labels(folders, ('c.png',), '0.95')


@pytest.mark.slow
def test_the_report_shows_each_round_next_to_the_pseudo_labels(learned):
    page = (learned / 'report.html').read_text()
    for caption in ('pseudo-labels: ', 'initial round: ', 'round 1: '):
        assert f'<figcaption>{caption}' in page
    assert 'src="data:image/' in page and 'src="http' not in page
    assert 'cuts3d generate' in page and 'hand-made' in page
    # Typed as shown, no command writes into the run.
    assert '--work-dir WORK_DIR' in page and f'{learned / "cut"}' not in page


@pytest.mark.slow
def test_the_report_says_how_many_predictions_became_labels(learned):
    page = (learned / 'report.html').read_text()
    assert 'predictions that became labels' in page
    kept = read_kept(RoundFolders(learned / 'training/round_1'))
    assert f'{kept.num_kept:,} of {kept.num_all:,}' in page


@pytest.mark.slow
def test_the_same_command_again_in_a_moved_folder_makes_again_what_is_damaged(root, learned):
    moved = learned.rename(root / 'moved')
    first, last = (moved / 'training' / f'round_{number}/begin.pth' for number in (1, 2))
    whole = {path: path.read_bytes() for path in (moved / 'plan.json', last, first)}
    saved = moved / 'training' / f'iter_{INITIAL + ROUND}.pth'
    before = saved.stat().st_mtime_ns
    for path, content in whole.items():
        path.write_bytes(content[:100])
    run_learn(root, moved)
    assert saved.stat().st_mtime_ns == before
    first.write_bytes(whole[first])  # its step is not saved, but what it detects is there
    assert [path.read_bytes() for path in whole] == list(whole.values())
    moved.rename(learned)


@pytest.mark.slow
def test_more_rounds_give_the_weights_of_a_run_that_had_them_from_the_start(root, learned):
    said = run_learn(root, learned, rounds=2)
    assert any('2 rounds instead of 1' in line for line in said)
    run_learn(root, root / 'direct', rounds=2)
    assert same_weights(learned, root / 'direct')
    with pytest.raises(ValueError, match=r'--rounds must be at least the 2 of the plan'):
        run_learn(root, learned, rounds=1)


@pytest.mark.slow
def test_a_setting_that_the_plan_fixes_cannot_be_changed(root, learned):
    with pytest.raises(ValueError, match='differing: --seed: 0 -> 1; choose another OUT'):
        run_learn(root, learned, seed=1)


@pytest.mark.slow
def test_annotations_score_labels_and_every_round(root, learned, tmp_path):
    write_coco(tmp_path / 'truth.json', lambda: read_store(learned / 'cut'))
    run_learn(root, learned, annotations=tmp_path / 'truth.json')
    page = (learned / 'report.html').read_text()
    assert 'against the annotations' in page
    labels = page[page.index('<td>pseudo-labels</td>') :]
    assert labels.startswith('<td>pseudo-labels</td><td>100.00</td>')


def test_what_failed_is_named_where_nothing_can_be_trained_on(tmp_path):
    folders = Folders(tmp_path)
    records = [
        ImageRecord('a.png', (0, 0), failure='no depth map'),
        ImageRecord('b.png', (30, 40)),
        ImageRecord('c.png', (30, 40)),
    ]
    write_store(folders.cut, records)
    reason = 'none of 2 images.*and 1 of them failed, the first with "no depth map"; .*another OUT'
    with pytest.raises(ValueError, match=reason):
        gather_labels(folders, ('c.png',), 'none')


@pytest.fixture
def resumed_root(tmp_path, monkeypatch):
    """Inputs of runs that end before they train."""

    def fail(*arguments):
        raise TrainingFailed('stopped')

    monkeypatch.setattr(steps, 'train', fail)
    return write_inputs(tmp_path)


def begin(resumed_root, **changes):
    with pytest.raises(TrainingFailed):
        run_learn(resumed_root, resumed_root / 'out', **changes)


def test_networks_that_cannot_be_fetched_leave_no_plan_and_offline_is_advised(
    resumed_root, monkeypatch
):
    def refuse(location):
        raise HubError(f'{location}: it is not in the cache')

    out, detector = resumed_root / 'out', str(resumed_root / 'detector.py')
    monkeypatch.setattr('cuts3d_mm.learning.loop.locate_file', refuse)
    request = Request(resumed_root / 'images', out, detector=detector, workers=0)
    with pytest.raises(HubError, match='not in the cache') as raised:
        steps.learn(request, print)
    assert one_line(raised.value).endswith('; add --offline: it downloads nothing')
    assert not out.exists()
    begin(resumed_root)  # offline, with the same OUT


@pytest.mark.parametrize('address', ['https://localhost:1/r50.pth', 'torchvision://resnet50'])
def test_weights_for_the_training_are_fetched_before_an_image_is_cut(
    resumed_root, monkeypatch, address
):
    def refuse(location):
        raise HubError(f'{location} cannot be downloaded')

    detector = resumed_root / 'with_weights.py'
    begins = {'_delete_': True, 'type': 'Pretrained', 'checkpoint': address}
    detector.write_text(
        f"_base_ = './detector.py'\nmodel = dict(backbone=dict(init_cfg={begins}))\n"
    )
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(resumed_root / 'cache'))
    monkeypatch.setattr('cuts3d_mm.learning.loop.locate_file', refuse)
    request = Request(
        resumed_root / 'images', resumed_root / 'out', detector=str(detector), offline=True
    )
    with pytest.raises(HubError, match=r'r50\.pth|download\.pytorch\.org'):
        steps.learn(request, print)
    assert not request.out.exists()


def test_a_misspelt_release_to_begin_with_is_said_before_an_image_is_cut(
    resumed_root, monkeypatch
):
    def refuse(*arguments):
        raise HubError('it is not in the cache')

    monkeypatch.chdir(resumed_root)
    (resumed_root / 'earlier/release').mkdir(parents=True)
    monkeypatch.setattr('cuts3d_mm.hub.client.fetch_file', refuse)
    with pytest.raises(ValueError, match='did you mean earlier/release'):
        run_learn(resumed_root, resumed_root / 'out', load_from='earlier/relase')
    assert not (resumed_root / 'out').exists()


def test_weights_to_begin_with_may_lie_in_a_repository_that_is_no_release(resumed_root, hub):
    weights = Repository(False)
    weights.commit({'model.safetensors': b'weights'})
    hub.repositories['models', 'owner/weights'] = weights
    begin(resumed_root, load_from='owner/weights')
    assert (resumed_root / 'out/labels').is_dir()


def test_a_contact_sheet_that_is_missing_is_drawn_though_nothing_is_left_to_cut(resumed_root):
    begin(resumed_root)
    sheet = resumed_root / 'out/contact_sheet.jpg'
    sheet.unlink()
    begin(resumed_root)
    assert sheet.is_file()


@pytest.fixture(params=['all', 'first'])
def empty_root(request, resumed_root, monkeypatch):
    """Half of the images are broken; all are cut before the check, or a sheet of them."""
    for path in sorted((resumed_root / 'images').iterdir())[::2]:
        path.write_bytes(b'')
    if request.param == 'first':
        monkeypatch.setattr(steps, '_CUT_FIRST', 5)
    return resumed_root


def test_labels_that_look_wrong_stop_a_run_without_a_terminal_with_figures_and_remedy(empty_root):
    wrong = r'too many images without a label: 3 of 6 images .*50.0 %.*contact_sheet.*--yes'
    for _ in range(2):  # the same command again asks again
        with pytest.raises(ValueError, match=wrong):
            run_learn(empty_root, empty_root / 'out')
    assert (empty_root / 'out/contact_sheet.jpg').is_file()
    assert not (empty_root / 'out/labels').exists()


def test_labels_that_look_wrong_are_trained_on_where_the_user_says_so(empty_root):
    questions = []
    begin(empty_root, ask=lambda question: questions.append(question) or True)
    assert len(questions) == 1 and 'contact_sheet.jpg' in questions[0]
    begin(empty_root)  # what was accepted is not asked for again


def test_yes_goes_on_without_a_question(empty_root):
    begin(empty_root, yes=True)


def test_labels_that_look_wrong_stop_before_the_other_images_are_cut(resumed_root, monkeypatch):
    monkeypatch.setattr(steps, '_CUT_FIRST', 5)
    monkeypatch.setattr(steps, 'NUM_SHOWN', 2)
    for path in sorted((resumed_root / 'images').iterdir())[1:]:
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='[12] of 2 images without a label'):
        run_learn(resumed_root, resumed_root / 'out')
    assert not (resumed_root / 'out/cut').exists()


def test_a_plan_that_another_run_has_written_meanwhile_is_not_overwritten(
    resumed_root, monkeypatch
):
    plan = resumed_root / 'out/plan.json'

    def look(images):
        plan.write_text(plan.read_text().replace('"seed": 0', '"seed": 1'))
        return look_at(images)

    begin(resumed_root)
    monkeypatch.setattr(steps, 'look_at', look)
    with pytest.raises(FolderInUse, match='another run .* run the same command again'):
        run_learn(resumed_root, resumed_root / 'out')
    assert '"seed": 1' in plan.read_text()


def test_images_that_were_added_since_the_cut_are_named(resumed_root):
    begin(resumed_root)
    write_photos(resumed_root / 'images', 1, first=6)
    with pytest.raises(ValueError, match=r'1 image more: 006\.png; choose another OUT'):
        run_learn(resumed_root, resumed_root / 'out', yes=True)
    (resumed_root / 'new.txt').write_text('006.png')
    begin(resumed_root, exclude=resumed_root / 'new.txt')


def test_images_that_are_gone_or_changed_since_the_cut_are_asked_about_once(resumed_root):
    begin(resumed_root)
    images, questions = resumed_root / 'images', []
    os.utime(images / '005.png', (1, 1))  # the same picture
    begin(resumed_root)
    shutil.copy(images / '004.png', images / '005.png')
    (images / '003.png').unlink()
    with pytest.raises(ValueError, match=r'003\.png \(is missing\), .* or go on with --yes'):
        run_learn(resumed_root, resumed_root / 'out')

    def agree(question):
        questions.append(question)
        return True

    begin(resumed_root, ask=agree)
    assert '2 images changed: 003.png (is missing), 005.png (size ' in questions[0]
    begin(resumed_root)  # the answer is kept
    names = [record.name for record in read_store(resumed_root / 'out/cut')]
    assert len(questions) == 1 and '003.png' in names
    for name in ('000.png', '001.png', '002.png'):
        (images / name).unlink()
    with pytest.raises(ValueError, match=r'000\.png \(is missing\).* choose another OUT'):
        run_learn(resumed_root, resumed_root / 'out', yes=True)  # too few are left to train on


# What has just appeared when the run is killed, in order.
BEFORE_TRAINING = 'plan.json', 'labels'
IN_TRAINING = 'training/iter_1.pth'
LATER = (
    'training/round_1',  # before its first checkpoint
    'training/round_1/predictions',
    'training/iter_4.pth',
    'release/config.json',
)


def kill_at(root, moments):
    for moment in moments:
        out = root / 'killed'
        killed = start_fork(run_learn, root, out, dies_at=out / moment, rounds=1)
        assert exit_code_of(killed) == -SIGKILL
        assert (out / moment).exists()


def kill_command_at(root, moment):
    """Kill the command itself; the training that it has started must end with it."""
    out = root / 'killed'
    configs = ('--config', root / 'generator.py', '--detector', root / 'detector.py')
    options = ('--offline', '--rounds', 1, '--workers', 0)
    process = StartedFork('learn', root / 'images', out, *configs, *options)
    assert wait_until(process, (out / moment).exists), output_of(process)
    stop(process, SIGKILL, whole_group=False)


@pytest.mark.slow
def test_a_run_killed_at_every_step_releases_the_weights_of_an_uninterrupted_one(tmp_path):
    root = write_inputs(tmp_path)
    kill_at(root, BEFORE_TRAINING)
    kill_command_at(root, IN_TRAINING)
    kill_at(root, LATER)
    run_learn(root, root / 'killed', rounds=1)
    run_learn(root, root / 'left_alone', rounds=1)
    assert same_weights(root / 'killed', root / 'left_alone')
