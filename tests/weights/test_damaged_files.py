"""Files with wrong bytes give a ValueError or weights: no other error, no crash, little memory."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

CASES = 300
LIMIT_BYTES = 1 << 30  # of new memory

# In a process of its own, as a crash or a lack of memory ends it.
_READ_ALL = """
import resource, sys
from pathlib import Path
from cuts3d_mm.weights import read_state
pages = int(Path('/proc/self/statm').read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
read = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read += len(read_state(str(path)).content) > 0
    except ValueError as error:
        assert '\\n' not in str(error), path
print(read)
"""


def contents():
    """Valid files of each format, by name."""
    network = torch.nn.Linear(30, 20)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 30)).sum().backward()
    optimizer.step()
    arrays = {'a': np.ones((3, 4), np.float32), 'b': np.arange(5)}
    training = {
        'state_dict': network.state_dict(),
        'optimizer': optimizer.state_dict(),
        'meta': {'iter': 3, 'classes': ('object',), 'score': np.float64(0.5), 'arrays': arrays},
    }
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(training, new)
    torch.save(training, old, _use_new_zipfile_serialization=False)
    return {
        'zip': new.getvalue(),
        'legacy': old.getvalue(),
        'pickle': pickle.dumps({'model': arrays}, protocol=2),
        'safetensors': save(network.state_dict()),
    }


def damage(content, rng):
    """Flip a few bytes, most of them where the structure is told, or cut the end off."""
    data = bytearray(content)
    if rng.random() < 0.2:
        return bytes(data[: rng.integers(len(data))])
    for _ in range(rng.integers(1, 5)):
        place = rng.integers(len(data) if rng.random() < 0.3 else min(len(data), 1500))
        data[place] = rng.integers(256)
    return bytes(data)


def damage_pickle(content, rng):
    """The same within the pickle of a zip, whose checksum is right again."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, 'w') as copy:
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, damage(data, rng) if name.endswith('data.pkl') else data)
    return target.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs limits of Linux')
def test_damaged_files_are_refused_or_read(tmp_path, rng):
    valid = contents()
    for number in range(CASES):
        kind = ('zip', 'legacy', 'pickle', 'safetensors')[number % 4]
        harm = damage_pickle if kind == 'zip' and number % 8 else damage
        (tmp_path / f'{number:03d}_{kind}').write_bytes(harm(valid[kind], rng))
    command = [sys.executable, '-c', _READ_ALL, str(tmp_path), str(LIMIT_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 < int(done.stdout) < CASES
