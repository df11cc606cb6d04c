"""Every script of the folder `benchmarks` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import ForkedCommand, run_forked
from helpers.drawn import write_depths, write_images

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[1] / 'benchmarks'
SCRIPTS = sorted(path.name for path in FOLDER.glob('*.py') if '__main__' in path.read_text())
# Script -> arguments with which it ends within seconds. {} is a folder of the test.
TINY = {
    'affinity.py': '--num 1 --sides 30',
    'cluster_simulation.py': '--images 20000 --nodes 2 --runs 1',
    'evaluation.py': '--images 30 --per-image 30',
    'copy_paste.py': '--rounds 1 --images 4',
    'crf.py': '--num 1 --repeats 1',
    'cut_on_device.py': '--num 1 --device cpu',
    'depth_quality.py': '--scenes 1 --out {}/depth.json --cache {}/cache',
    'feeder.py': '--num 8 --repeats 1',
    'fit_score.py': '--scenes 2 --cache {}/cache',
    'gpu_box.py': '--cpu-ms 230',
    'grouping.py': '--scenes 3 --groups 3 --cache {}/cache --out {}/rows.json',
    'half_precision.py': '',
    'label_store.py': '{}/store --images 200 --samples 50',
    'local_cut.py': '--num 1',
    'method_study.py': '--scenes 2 --features color-texture --recipes cuts3d --cache {}/cache',
    'overlap.py': '{}/trace.json',
    'pipeline.py': f'--photos {{}} --num 2 --workers 1 --before {FOLDER.parent}',
    'stage_times.py': '{}/generator.py {}/images 2',
    'start_up.py': '--rounds 1 --warm',
    'tracking.py': '--clips 1',
    'train_step.py': '--rounds 1',
    'two_balls.py': '--scenes 1',
}
# Minutes even at their smallest: a dense eigenproblem, Ray, and trainings of their own.
LONG = {'few_labels.py', 'patch_stage.py', 'ray_rate.py', 'rounds_control.py', 'training_table.py'}
ELSEWHERE = {'gpu_session.py', 'trace_files.py'}  # in test_on_a_gpu.py and test_trace_files.py
GENERATOR = """model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='cuts3d_mm.ColorTextureFeatures'),
    recipe=dict(preset='maskcut'),
    input_hw=(96, 128),
)
"""


def run(script, *arguments):
    path = os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    command = [sys.executable, str(FOLDER / script), *arguments]
    if script == 'fit_score.py':  # its workers import the script, which no fork can be asked for
        variables = {**os.environ, 'PYTHONPATH': path}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=280)
    else:
        done = ForkedCommand(command, PYTHONPATH=path).completed()
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_script_is_run_or_is_known_to_take_minutes():
    assert sorted([*TINY, *LONG, *ELSEWHERE]) == SCRIPTS


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_script_explains_itself(script):
    assert 'usage:' in run(script, '--help')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Photos, depth, a config and the trace of a run."""
    import numpy as np

    root, rng = tmp_path_factory.mktemp('benchmarks'), np.random.default_rng(0)
    names = write_images(root / 'images', 3, rng)
    write_depths(root / 'depth', names, rng)
    (root / 'generator.py').write_text(GENERATOR)
    command = [sys.executable, '-m', 'cuts3d_mm', 'generate', root / 'generator.py']
    command += [root / 'images', root / 'labels', '--workers', 0]
    command += ['--profile', root / 'trace.json']
    assert run_forked(command).returncode == 0
    return root


@pytest.mark.parametrize('script', TINY)
def test_a_script_runs_on_little(script, folder):
    arguments = TINY[script].replace('{}', str(folder)).split()
    assert run(script, *arguments).strip() or script == 'depth_quality.py'
