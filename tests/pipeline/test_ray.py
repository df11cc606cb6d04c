"""Runs on a real Ray cluster, one machine of which is lost, write what local runs write."""

from __future__ import annotations

import builtins
import json
import os
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, raise_signal
from unittest.mock import MagicMock

import numpy as np
import psutil
import pytest
from helpers.commands import STOP_LIMIT_S, output_of, start, stop, wait_until
from helpers.drawn import MASKCUT, write_images
from helpers.hostile_files import CLIMBING, REFUSED_IN_JSON
from helpers.runs import label
from helpers.stand_in_labellers import Blind, Deadly, Disconnected, Slow, WithoutRoom

from cuts3d_mm.files.lock import hold_folder
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.pipeline import ray as ray_pipeline
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.ray import RayExecutor, StagedCrew
from cuts3d_mm.pipeline.run import WorkerLost
from cuts3d_mm.pipeline.work import BuiltLabeller, ConfiguredLabeller

pytest.importorskip('ray')
pytestmark = pytest.mark.slow

QUICK = ('--cfg-options', 'model.input_hw=(96,128)')
RESUME_LINE = 'cuts3d generate: interrupted; run the same command again to resume\n'
NODE = {'num_cpus': 1, 'num_gpus': 1, 'object_store_memory': 80 * 2**20}


@pytest.fixture(scope='module')
def cluster():
    """Two machines with one CPU each, as processes here, which claim to have a GPU each.

    This process is connected to them, so that all runs in it share their worker processes.
    """
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('RAY_worker_niceness', '0')  # or a busy machine leaves them no time
        patch.setenv('PYTHONPATH', str(Path(__file__).parents[1]), prepend=os.pathsep)
        cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, 'include_dashboard': False}
        )
        cluster.other = cluster.add_node(**NODE)
        ray.init(cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images, some of which are none or have hostile names, and the labels of a local run."""
    folder = tmp_path_factory.mktemp('ray')
    names = write_images(folder / 'images', 48, np.random.default_rng(0))
    (folder / 'images' / names[3]).write_bytes(b'broken')
    (folder / 'secret.png').write_bytes((folder / 'images' / names[4]).read_bytes())
    (folder / 'images/link.png').symlink_to(folder / 'secret.png')
    os.mkfifo(folder / 'images/pipe.png')
    climbing = [name.format(here=folder) for name in CLIMBING if name not in REFUSED_IN_JSON]
    names += ['link.png', 'pipe.png', *climbing]
    (folder / 'images.json').write_text(
        json.dumps({'images': [{'id': i, 'file_name': name} for i, name in enumerate(names)]})
    )
    counts = run(folder, 'local', LocalExecutor(0))
    assert counts.images == len(names) and counts.failures == 3 + len(climbing)
    return folder


def run(folder, out, executor, at_first=None, labeller=None):
    source = labeller or ConfiguredLabeller(MASKCUT)
    counts, told = label(
        folder / 'images.json', folder / out, source, executor, batch_size=2, at_first=at_first
    )
    assert told.counts == counts
    return counts


def content(folder, out):
    files = (p for p in (folder / out).iterdir() if not p.name.startswith('.'))
    return {path.name: path.read_bytes() for path in files}


def shards(folder, out):
    return {name: found for name, found in content(folder, out).items() if 'labels-' in name}


def test_networks_in_actors_and_the_rest_in_tasks_give_the_bytes_of_a_local_run(cluster, folder):
    run(folder, 'staged', RayExecutor(cluster.address, gpus=1))
    assert content(folder, 'staged') == content(folder, 'local')


def test_a_run_leaves_print_and_the_connection_of_this_process_as_they_were(cluster, folder):
    import ray
    from ray.experimental import tqdm_ray

    before = builtins.print
    # What Ray calls when a machine or a task is lost: it replaces print.
    run(folder, 'kept', RayExecutor(cluster.address), tqdm_ray.instance)
    assert builtins.print is before
    assert ray.is_initialized() and content(folder, 'kept') == content(folder, 'local')


def test_a_full_disk_ends_a_run_with_the_remedy_and_the_run_goes_on(cluster, folder):
    executor = RayExecutor(cluster.address)
    with pytest.raises(OSError, match='is not written; make room, then run the same command'):
        run(folder, 'full', executor, labeller=BuiltLabeller(WithoutRoom(), {}))
    run(folder, 'full', executor, labeller=BuiltLabeller(Blind(), {}))
    run(folder, 'roomy', LocalExecutor(0), labeller=BuiltLabeller(Blind(), {}))
    assert content(folder, 'full') == content(folder, 'roomy')
    assert not list((folder / 'full').glob('.*partial'))


def test_a_second_run_into_the_same_folder_ends_with_one_line(cuts3d, folder):
    (folder / 'held').mkdir()
    with hold_folder(folder / 'held'):
        arguments = ('maskcut_color-texture', folder / 'images', folder / 'held', *QUICK)
        code, _, err = cuts3d('generate', *arguments, '--executor', 'ray')
    assert code == 2 and err.count('\n') == 1 and f'process {os.getpid()};' in err


def test_a_token_that_is_there_is_sent(monkeypatch, tmp_path):
    for name in ('RAY_AUTH_MODE', 'RAY_AUTH_TOKEN', 'RAY_AUTH_TOKEN_PATH'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path))
    ray_pipeline._offer_token()
    assert 'RAY_AUTH_MODE' not in os.environ
    (tmp_path / '.ray').mkdir()
    (tmp_path / '.ray/auth_token').touch()
    ray_pipeline._offer_token()
    assert os.environ['RAY_AUTH_MODE'] == 'token'


def test_a_cluster_that_refuses_is_said_with_the_token(monkeypatch):
    import ray

    def refuse(**options):
        raise ConnectionError('Failed to connect')

    monkeypatch.setattr(ray, 'init', refuse)
    with pytest.raises(ConnectionError, match='if it asks for a token, bring it as ~/.ray'):
        ray_pipeline._connect(ray, '127.0.0.1:1')


def test_a_shard_that_ends_each_process_ends_the_run_with_a_remedy(cluster, folder, monkeypatch):
    monkeypatch.setattr('cuts3d_mm.pipeline.ray.RETRIES', 1)
    with pytest.raises(WorkerLost, match='2 times.* run the same command again to resume'):
        executor = RayExecutor(cluster.address, gpus=1)
        run(folder, 'deadly', executor, labeller=BuiltLabeller(Deadly(), {}))


def test_few_extracted_shards_wait_however_many_cpus_there_are():
    ray = MagicMock()
    ray.cluster_resources.return_value = {'CPU': 64, 'GPU': 1}
    ray.wait.side_effect = lambda references, **_: (references, [])  # the actor is quick
    crew = StagedCrew(ray, b'', gpus=1)
    crew.update()
    running = 0
    while crew.has_room(running):
        crew.submit((running, ()))
        crew.update()
        running += 1
    assert running == 64 + 2


def test_a_finished_run_asks_no_cluster(folder):
    run(folder, 'local', RayExecutor('127.0.0.1:9'))


@pytest.mark.parametrize('gpus', [0, 1])
def test_what_ends_a_shard_is_raised_as_it_was(cluster, folder, gpus):
    model = {**MASKCUT, 'features': {'type': 'cuts3d_mm.ColorTextureFeatures', 'no_such': 1}}
    with pytest.raises(ValueError, match='no_such') as raised:
        executor = RayExecutor(cluster.address, gpus=gpus)
        run(folder, f'wrong-{gpus}', executor, labeller=ConfiguredLabeller(model))
    assert 'ray.py' in str(raised.value.__cause__)


def test_a_lost_connection_of_a_shard_is_not_taken_for_a_missing_cluster(cluster, folder):
    with pytest.raises(ConnectionResetError, match='^the server hung up$'):
        labeller = BuiltLabeller(Disconnected(), {})
        run(folder, 'hung-up', RayExecutor(cluster.address), labeller=labeller)


def test_a_cluster_that_is_not_there_is_named_within_seconds(cuts3d, folder):
    began = time.monotonic()
    arguments = ('maskcut_color-texture', folder / 'images', folder / 'none', *QUICK)
    code, _, err = cuts3d('generate', *arguments, '--executor', 'ray', '--address', '127.0.0.1:9')
    assert code == 2 and 'none answers at 127.0.0.1:9; start one by `ray start' in err
    assert time.monotonic() - began < 10


def workers_at_work():
    """Processes of the cluster that label; Ray names them by what they do."""
    titles = (''.join(one.info['cmdline'] or ()) for one in psutil.process_iter(['cmdline']))
    kinds = ('ray::label_shard_here', 'ray::finish_shard_here', 'ray::Extractor')
    return [title for title in titles if title.startswith(kinds)]


@pytest.mark.parametrize('gpus', [0, 1])
def test_ctrl_c_ends_the_work_of_a_run_at_once(cluster, folder, gpus):
    with pytest.raises(KeyboardInterrupt):
        executor = RayExecutor(cluster.address, gpus=gpus)
        slow = BuiltLabeller(Slow(), {})
        run(folder, f'interrupted-{gpus}', executor, lambda: raise_signal(SIGINT), slow)
    require_idle_workers()


def require_idle_workers():
    deadline = time.monotonic() + STOP_LIMIT_S
    while found := workers_at_work():
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def generate(cluster, folder, out):
    arguments = ('maskcut_color-texture', folder / 'images.json', folder / out, *QUICK)
    where = ('--executor', 'ray', '--address', cluster.address, '--max-failures', 1)
    return start('generate', *arguments, *where, '--batch-size', 2)


def test_a_run_stopped_in_every_way_ends_and_goes_on_with_the_bytes_of_a_local_one(
    cluster, folder
):
    for number, code in ((SIGINT, 130), (SIGTERM, 143), (SIGKILL, -9)):
        process, before = generate(cluster, folder, 'stopped'), count_shards(folder)
        assert wait_until(process, lambda: count_shards(folder) > before)  # noqa: B023
        output = stop(process, number)
        assert process.returncode == code, output
        assert number == SIGKILL or output.endswith(RESUME_LINE)
        require_idle_workers()
    process = generate(cluster, folder, 'stopped')
    output = output_of(process)
    assert process.returncode == 0, output
    assert shards(folder, 'stopped') == shards(folder, 'local')


def count_shards(folder):
    return len(list((folder / 'stopped').glob('labels-*')))


def test_a_run_that_loses_a_machine_writes_the_bytes_of_a_local_run(cluster, folder):
    lost, cluster.other = cluster.other, None
    run(
        folder, 'lost', RayExecutor(cluster.address),
        lambda: cluster.remove_node(lost, allow_graceful=False),
    )  # fmt: skip
    assert content(folder, 'lost') == content(folder, 'local')


def test_a_run_that_loses_a_machine_with_an_actor_labels_all_images(cluster, folder):
    lost = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    counts = run(
        folder, 'lost-actor', RayExecutor(cluster.address, gpus=1),
        lambda: cluster.remove_node(lost, allow_graceful=False), BuiltLabeller(Slow(), {}),
    )  # fmt: skip
    assert counts.images == len(list_images(folder / 'images.json').names)
