"""The Dockerfile, as far as it can be checked without building it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / 'Dockerfile').read_text('utf-8')
LINES = re.sub(r'^#.*\n', '', DOCKERFILE, flags=re.MULTILINE).replace('\\\n', ' ').splitlines()
EXTRAS = re.findall(r'^([a-z]+) = \["', (ROOT / 'pyproject.toml').read_text('utf-8'), re.MULTILINE)


def arguments(instruction):
    return [line.partition(' ')[2] for line in LINES if line.startswith(f'{instruction} ')]


def test_shell_lines_are_valid_and_end_at_the_first_failure():
    for line in arguments('RUN'):
        subprocess.run(['bash', '-n', '-c', line], check=True)
        assert ';' not in line, line


def test_files_that_are_copied_exist():
    copied = [line.split() for line in arguments('COPY') if '--from=' not in line]
    assert copied
    for *sources, _ in copied:
        assert all((ROOT / source).exists() for source in sources)


def test_installed_extras_exist():
    (named,) = re.findall(r"'\.\[(.+)\]'", DOCKERFILE)
    assert set(named.split(',')) <= set(EXTRAS)


def test_no_compiler_is_installed_and_the_cpu_is_the_default():
    assert not any(re.search(r'apt-get|MMCV_WITH_OPS|build-essential', line) for line in LINES)
    assert len(arguments('FROM')) == 2 and 'TORCH=cpu' in arguments('ARG')
    assert 'UV_TORCH_BACKEND=${TORCH}' in DOCKERFILE


def test_cuda_of_the_image_is_that_of_the_pinned_torch():
    torch = pytest.importorskip('torch')
    (pin,) = re.findall(r'^torch==(.+)$', (ROOT / 'requirements/onedl.txt').read_text(), re.M)
    if torch.version.cuda is None or torch.__version__.split('+')[0] != pin:
        pytest.skip('this is another torch than the pinned one with CUDA')
    for text in (DOCKERFILE, (ROOT / 'docs/install.md').read_text('utf-8')):
        named = re.findall(r'--build-arg TORCH=(cu\d+) ', text)
        assert named == [f'cu{torch.version.cuda.replace(".", "")}']
