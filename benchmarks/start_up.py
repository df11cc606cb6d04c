"""CPU seconds until commands answer and the first masks are there.

    python benchmarks/start_up.py [--rounds 3]

The least of some rounds; the first masks also with an empty cache of numba.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cuts3d_mm.scenes.rendering import render_scenes

HERE = Path(__file__).parents[1]
CUTS3D = ('-m', 'cuts3d_mm')
LOAD = 'import cuts3d_mm; g = cuts3d_mm.load_generator("cuts3d_color-texture_file-depth")'
SCENE = 'scene.npz'  # in the folder of the commands
DATA = f'import numpy as np; s = np.load("{SCENE}")'
CUT = f'{LOAD}; {DATA}; assert g.predict(s["image"], depth=s["depth"])'
CASES: dict[str, Sequence[str]] = {
    'import cuts3d_mm': ('-c', 'import cuts3d_mm'),
    'cuts3d --help': (*CUTS3D, '--help'),
    'cuts3d generate --help': (*CUTS3D, 'generate', '--help'),
    'cuts3d explain, missing image': (*CUTS3D, 'explain', 'maskcut_color-texture', 'no.jpg', 'o'),
    'cuts3d generate, missing folder': (*CUTS3D, 'generate', 'maskcut_color-texture', 'no', 'o'),
    'load the embedded generator': ('-c', LOAD),
    'first masks, embedded features': ('-c', CUT),
}


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=3, help='runs, of which the fastest counts')
    parser.add_argument('--warm', action='store_true', help='leave the empty cache of numba out')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (scene,) = render_scenes(1, seed=3)
        np.savez(Path(folder) / SCENE, image=scene.image, depth=scene.depth)
        for name, command in CASES.items():
            seconds = min(cpu_seconds(command, folder) for _ in range(args.rounds))
            print(f'{name:34s}{seconds:6.2f} s')
        if not args.warm:
            cut = CASES['first masks, embedded features']
            empty = cpu_seconds(cut, folder, f'{folder}/numba')
            print(f'{"first masks, empty numba cache":34s}{empty:6.2f} s')


def cpu_seconds(command: Sequence[str], folder: str, numba_cache: str = '') -> float:
    """CPU time of a Python process and its children."""
    environment = {**os.environ, 'PYTHONPATH': str(HERE)}
    if numba_cache:
        environment['NUMBA_CACHE_DIR'] = numba_cache
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [sys.executable, *command]
    subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == '__main__':
    main()
