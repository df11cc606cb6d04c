"""Every row of the paper's tables, by the commands of docs/reproduction.md, with stand-ins."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.commands import PAGE, Call, read_rows
from helpers.drawn import annotations_of, write_depths, write_images
from helpers.official_samples import WRITERS, write_coco, write_image
from helpers.training import tiny_data, tiny_generator, tiny_training, write_config
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from cuts3d_mm.evaluation.suite import TABLE_2

ROWS = {'1': 4, '2': 3, '3': 1, '4': 9, '5': 8, '6': 2, '7': 4, '8': 4}  # blocks by table
PUBLISHED = 'checkpoints/cutler_cascade_final.pth', 'checkpoints/cuvler_zero_shot.pth'
TITLES = re.findall(r'```bash\n# (.*)\n', PAGE.read_text())
DETECTOR = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'


@pytest.fixture(scope='module')
def rows(tmp_path_factory):
    return read_rows(tmp_path_factory.mktemp('bash'))


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """What the page says must be there before: images, annotations, depth and weights."""
    root = tmp_path_factory.mktemp('checkout')
    rng = np.random.default_rng(0)
    for folder in ('imagenet/train', 'coco/train2017'):
        names = write_images(root / 'data' / folder, 8, rng, image_hw=(72, 96))
    for source in ('kick-back-relax', 'midas-small', 'stand-in'):
        write_depths(
            root / 'data' / 'depth' / source, [*names, 'a.jpg', 'b.jpg', 'missing.jpg'], rng
        )
    write_coco(root / 'data' / 'coco')
    write_image(root / 'data' / 'coco' / 'val2017' / 'missing.jpg')  # not missing here
    training = root / 'data' / 'coco' / 'annotations' / 'instances_train2017.json'
    training.write_text(json.dumps(annotations_of(names, (72, 96))))
    for name in TABLE_2:
        WRITERS[name](root / 'data' / 'official' / name)
    return root


def titles_of(table):
    return [title for title in TITLES if re.match(rf'Table (1 and )?{table}\w?:', title)]


def test_every_table_has_its_rows(rows):
    assert list(rows) == TITLES
    found = {table: len(titles_of(table)) for table in ROWS}
    found['1'] += len(titles_of('2'))
    assert found == ROWS


def test_every_labelling_runs_a_published_recipe_without_options(rows):
    calls = {call for row in rows.values() for call in row if call.name == 'generate'}
    assert not any('--cfg-options' in call.arguments for call in calls)
    kinds = {call.arguments[0].partition('_')[0] for call in calls}
    assert kinds == {'paper', 'paper-v3', 'maskcut'}


def test_no_two_recipes_share_a_store(rows):
    stores: dict[str, set] = {}
    for call in {call for row in rows.values() for call in row if call.name == 'generate'}:
        config, images, store, *rest = call.arguments
        stores.setdefault(store, set()).add((config, images, tuple(rest)))
    assert all(len(calls) == 1 for calls in stores.values())


def test_one_command_labels_in_full_precision_on_all_gpus_and_cores(rows):
    calls = [call for row in rows.values() for call in row if call.name in ('generate', 'predict')]
    assert calls
    for call in calls:
        assert not {'--part', '--device', '--devices', '--workers'} & {*call.arguments}
        if call.name == 'generate':
            precision = call.arguments.index('--precision') + 1
            assert call.arguments[precision] == 'fp32'


def test_labels_of_a_recipe_pass_the_gate_before_imagenet_is_cut(rows):
    for row in rows.values():
        for number, call in enumerate(row):
            if call.name != 'generate' or call.arguments[1] != 'data/imagenet/train':
                continue
            config, _, store, *options = call.arguments
            first, gate = row[number - 2 : number]
            checked = f'{store}_val2017'
            assert first.arguments[:3] == (config, 'data/coco/val2017', checked)
            assert first.arguments[3:] == ('--limit', '2000', *options)
            assert (gate.name, gate.arguments[0]) == ('score', checked)
            assert gate.arguments[-2:] == ('--gate', '1.1-7.5')


def test_labels_that_the_gate_refuses_are_not_made_for_imagenet(tmp_path):
    setup = re.search(r'```bash\n(.*?)```', PAGE.read_text(), flags=re.DOTALL)[1]
    stub = 'cuts3d() { echo "$1 $3" >> calls; test $1 != score; }\n'
    command = ['bash', '-euc', f'{stub}{setup}\nlabel a.py store; train 160k_imagenet store run']
    done = subprocess.run(command, cwd=tmp_path)
    assert done.returncode == 1
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert [call.split()[0] for call in calls] == ['generate', 'score']


@pytest.mark.parametrize('gpus', [1, 8])
def test_a_step_has_16_images_on_any_number_of_gpus(tmp_path, gpus):
    calls = [call for row in read_rows(tmp_path, gpus).values() for call in row]
    trainings = [call for call in calls if call.name == 'train']
    size = f'train_dataloader.batch_size={16 // gpus}'
    assert trainings and all(size in call.arguments for call in trainings)


class StandIn:
    """Runs the calls of the page in this process, each distinct one once."""

    def __init__(self, root, cuts3d, done):
        self.root = root
        self.cuts3d = cuts3d
        self.done = done

    def run(self, call):
        key = call.name, call.arguments
        if key not in self.done:
            self.done.add(key)
            getattr(self, call.name.replace('-', '_'))(*call.arguments)

    def command(self, name, *arguments):
        arguments = list(arguments)
        if '--score-thr' in arguments:
            arguments[arguments.index('--score-thr') + 1] = '0'
        if name in ('generate', 'predict'):
            arguments += ['--device', 'cpu', '--workers', '0']
        torch.manual_seed(0)  # of the random weights, the same in every part
        code, _, errors = self.cuts3d(name, *arguments)
        assert code == 0, (name, arguments, errors)

    def generate(self, config, *arguments):
        name = config.rpartition('/')[2]
        tiny = self.root / 'stand_ins' / name
        if not tiny.exists():
            write_config(tiny_generator(name), tiny)
        if not name.startswith('maskcut') and '--depth' not in arguments:
            arguments = (*arguments[:2], '--depth', 'data/depth/stand-in', *arguments[2:])
        self.command('generate', tiny, *arguments)

    def score(self, *arguments):
        """The gate; labels by random features may fail it, saying why."""
        code, out, errors = self.cuts3d('score', *arguments)
        assert 'passed: ' in out if code == 0 else 'labels must pass the gate' in errors, errors

    def detector(self, config):
        tiny, iterations = tiny_training(config.rpartition('/')[2])
        path = self.root / 'stand_ins' / config
        return write_config(tiny, path), tiny.train_cfg.max_iters, iterations

    def train(self, config, *arguments):
        tiny, few, iterations = self.detector(config)
        self.command('train', tiny, *arguments)
        work_dir = self.root / arguments[arguments.index('--work-dir') + 1]
        (work_dir / f'iter_{few}.pth').rename(work_dir / f'iter_{iterations}.pth')

    def test(self, config, *arguments):
        self.command('test', self.detector(config)[0], *arguments)

    def predict(self, config, *arguments):
        self.command('predict', self.detector(config)[0], *arguments)

    def evaluate_suite(self, config, checkpoint, *arguments):
        if checkpoint.startswith('work_dirs'):
            path = self.detector(config)[0]
        else:  # a published detector, of full size: one set is enough
            full = tiny_data(config.rpartition('/')[2])
            path = write_config(full, self.root / 'stand_ins' / 'full' / DETECTOR)
            first = arguments.index('--datasets') + 1
            arguments = arguments[: first + 1]
        self.command('evaluate_suite', path, checkpoint, *arguments)

    def convert(self, *arguments):
        if not (self.root / PUBLISHED[0]).exists():
            self.write_published()
        self.command('convert', *arguments)

    def write_published(self):
        init_default_scope('mmdet')
        (self.root / 'checkpoints').mkdir()
        state = MODELS.build(tiny_data(DETECTOR).model).state_dict()
        ours = self.root / 'ours.pth'
        torch.save({'state_dict': state}, ours)
        self.command('convert', 'detectron2', '--reverse', str(ours), PUBLISHED[0])
        shutil.copy(self.root / PUBLISHED[0], self.root / PUBLISHED[1])

    def prepare(self, *arguments):
        self.command('prepare', *arguments)


@pytest.fixture(scope='module')
def done():
    return set()


@pytest.fixture
def stand_in(place, done, cuts3d, monkeypatch):
    monkeypatch.chdir(place)
    return StandIn(place, cuts3d, done)


@pytest.mark.slow
@pytest.mark.parametrize('title', TITLES)
def test_row_runs_from_images_to_scores(title, rows, stand_in, monkeypatch):
    calls = rows[title]
    if title.startswith('Fine-tuning'):
        calls = [call for call in calls if call.percent in ('', '50')]
        monkeypatch.setenv('PERCENT', '50')
    for call in calls:
        assert isinstance(call, Call)
        stand_in.run(call)
    kinds = Counter(call.name for call in calls)
    assert kinds['train'] or kinds['evaluate-suite']
