from __future__ import annotations

import gc
import os
import runpy
import sys
import time
from multiprocessing.util import get_temp_dir
from pathlib import Path
from types import SimpleNamespace

# One thread per process, here and in the processes that tests start: the workers of pytest
# share the machine. Set before torch and OpenBLAS are loaded.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Byte code is kept, also where a container says otherwise: a process that loads torch and
# MMDetection starts in half of the time.
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
sys.dont_write_bytecode = False
# Commands that tests start end with this process, however it ends.
os.environ['CUTS3D_STARTER'] = str(os.getpid())

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from helpers.commands import left_as_they_are  # noqa: E402

import cuts3d_mm  # noqa: E402, F401  before MMDetection, which finds the operators of mmcv by it


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Search what is imported for no garbage: it is large, and MMEngine asks for searches."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True, scope='session')
def layout():
    """What lays out the texts of configs; in this process they have no layout."""
    with left_as_they_are() as made_by:
        yield made_by


@pytest.fixture(autouse=True)
def new_outputs():
    """MMEngine keeps loggers and visualizers, with their outputs, by name; here for one test.

    The name of a run is the second in which it begins.
    """
    if 'mmengine.visualization' in sys.modules:
        logger = sys.modules['mmengine.logging'].MMLogger
        visualizer = sys.modules['mmengine.visualization'].Visualizer
        for kind in (logger, visualizer, *visualizer.__subclasses__()):
            kind._instance_dict.clear()


@pytest.fixture
def without_random_weights(monkeypatch):
    """Networks are built with whatever is in memory: filling them takes most of the time."""
    import torch

    for name in dir(torch.nn.init):
        if name.endswith('_') and not name.startswith('_'):
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)


TOOLS = Path(__file__).parents[1] / 'tools'


@pytest.fixture
def cuts3d(monkeypatch, capsys, tmp_path_factory):
    """Run a command in this process: exit code, output, errors; `done`: one that must succeed."""
    get_temp_dir()  # is removed when this process ends, after the folders of tests
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path_factory.mktemp('temporary')))

    def run(command, *arguments):
        capsys.readouterr()  # of what ran before the command
        monkeypatch.setattr(sys, 'argv', [f'cuts3d {command}', *map(str, arguments)])
        monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))  # a command may add to it
        monkeypatch.setenv('CUTS3D_LEAVES_OUT', '')
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOLS / f'{command}.py'), run_name='__main__')
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    def done(*arguments):
        """Run a command that must succeed, and return its output."""
        code, out, err = run(*arguments)
        assert code == 0, err
        return out

    run.done = done
    return run


@pytest.fixture(scope='session')
def coco287() -> Path:
    """287 real photos with depth and annotations, where they are at hand."""
    folder = os.environ.get('CUTS3D_TEST_DATA')
    if not folder or not Path(folder).is_dir():
        pytest.skip('CUTS3D_TEST_DATA does not name a folder with the measuring photos')
    return Path(folder)


@pytest.fixture(scope='session')
def release(tmp_path_factory):
    """The sdist and the wheel of this checkout."""
    from helpers.installed_wheel import build_release, copy_checkout

    folder = tmp_path_factory.mktemp('release')
    return build_release(copy_checkout(folder / 'checkout'), folder)


@pytest.fixture(scope='session')
def installed(release, tmp_path_factory):
    """The wheel in an environment of its own."""
    from helpers.installed_wheel import install_wheel

    return install_wheel(release.wheel, tmp_path_factory.mktemp('environment'))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub on loopback that the real client talks to, with an empty cache and a token."""
    constants = pytest.importorskip('huggingface_hub.constants')
    from helpers.servers import TOKEN, serve_hub

    from cuts3d_mm.hub import client

    with serve_hub() as (state, url):
        monkeypatch.setattr(constants, 'ENDPOINT', url)
        template = url + '/{repo_id}/resolve/{revision}/{filename}'
        # Where the client looks for it: before 1.0, and from 1.0 on.
        for place in ('huggingface_hub.file_download', 'huggingface_hub.constants'):
            name = f'{place}.HUGGINGFACE_CO_URL_TEMPLATE'
            monkeypatch.setattr(name, template, raising=False)
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)  # this Hub speaks LFS
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
        monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(tmp_path / 'no_token'))
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        without_sleep = SimpleNamespace(**{**vars(time), 'sleep': lambda seconds: None})
        monkeypatch.setattr('huggingface_hub.utils._http.time', without_sleep)
        monkeypatch.setattr('huggingface_hub.file_download.time', without_sleep)
        monkeypatch.setattr(client, 'PAUSES_S', (0.0, 0.0, 0.0, 0.0))
        state.url = url
        yield state
