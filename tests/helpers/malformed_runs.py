"""Give malformed files to the commands in this process, one after another.

usage: malformed_runs.py FOLDER SEED COUNT [FIRST]: prints a JSON line for each case before and
after it, the peak of the memory once every use has loaded what it needs, and at last.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import math
import re
import runpy
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from helpers.hostile_files import IMAGE_HW, document, malformed_files
from helpers.oracles import is_sound
from PIL import Image

TOOLS = Path(__file__).parents[2] / 'tools'
USES = ('convert', 'score', 'truth', 'view', 'dataset', 'annotations', 'names')
# Of each use, what it looks at apart from ids, sizes, boxes and masks.
LABELS = ('confidence', 'names', 'masks')
NEEDS = dict.fromkeys(('convert', 'score', 'view', 'dataset'), LABELS)
NEEDS |= {'truth': ('areas', 'names', 'masks'), 'annotations': ('areas',)}


def run_tool(name: str, *arguments: object) -> tuple[int, str]:
    """Exit code and last line of the errors."""
    sys.argv = [f'cuts3d {name}', *map(str, arguments)]
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            runpy.run_path(str(TOOLS / f'{name}.py'), run_name='__main__')
        except SystemExit as ended:
            return int(ended.code or 0), errors.getvalue().strip()
    return 0, ''


def read_dataset(path: Path) -> tuple[int, str]:
    """Load every image of the file as a training does."""
    from cuts3d_mm.datasets import LoadPseudoLabels, PseudoLabelDataset

    load = LoadPseudoLabels(with_bbox=True)
    try:
        dataset = PseudoLabelDataset(ann_file=str(path), pipeline=[])
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            size = info['height'], info['width']
            loaded = load.transform({**info, 'ori_shape': size, 'img_shape': size})
            assert loaded['gt_masks'].masks.shape == (len(info['instances']), *size)
            assert np.isfinite(loaded['gt_bboxes'].tensor.numpy()).all()
    except ValueError as error:
        return 2, str(error)
    return 0, ''


def read_annotations(path: Path) -> tuple[int, str]:
    """Load the file as the data set that detectors are evaluated on."""
    from cuts3d_mm.datasets import ClassAgnosticCocoDataset

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            len(ClassAgnosticCocoDataset(ann_file=str(path), data_prefix={'img': ''}, pipeline=[]))
    except ValueError as error:
        return 2, str(error)
    return 0, ''


def read_names(path: Path) -> tuple[int, str]:
    """Use the file as a list of images."""
    from cuts3d_mm.images.listing import list_images

    try:
        list_images(path)
    except ValueError as error:
        return 2, str(error)
    return 0, ''


def use(folder: Path, path: Path, kind: str) -> tuple[int, str]:
    good, out = folder / 'good.json', folder / 'out'
    if kind == 'score':
        return run_tool('score', path, good)
    if kind == 'truth':
        return run_tool('score', good, path, '--json', folder / 'scores.json')
    if kind == 'view':
        return run_tool('view', path, folder / 'images', out)
    if kind == 'convert':
        return run_tool('convert', 'labels', path, out)
    return {'dataset': read_dataset, 'annotations': read_annotations, 'names': read_names}[kind](
        path
    )


def outcome(folder: Path, path: Path, kind: str) -> tuple[str, str]:
    """`accepted`, `refused`, `invalid` (wrongly accepted), `unclear` or `traceback`."""
    try:
        code, message = use(folder, path, kind)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is a finding
        return 'traceback', f'{type(error).__name__}: {str(error)[:200]}'
    if code:
        lines = [line for line in message.split('\n') if 'Warning' not in line]
        # the file, an image of it, or where single images that cannot be drawn are listed
        names_it = any(name in message for name in (str(path), '.png', 'not_drawn.jsonl'))
        is_clear = 'Traceback' not in message and names_it and len(lines) <= 2
        return ('refused' if is_clear else 'unclear'), message[:300]
    if kind == 'truth':
        scores = json.loads((folder / 'scores.json').read_text())
        if not all(math.isfinite(v) for figures in scores.values() for v in figures.values()):
            return 'invalid', 'scores'
    needs = NEEDS.get(kind)
    if needs is not None and not is_sound(path.read_bytes(), needs):
        return 'invalid', ''
    return 'accepted', ''


def main() -> None:
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    first = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    warnings.simplefilter('ignore')
    (folder / 'images').mkdir(exist_ok=True)
    for index in range(2):
        Image.fromarray(np.zeros((*IMAGE_HW, 3), np.uint8)).save(folder / f'images/{index}.png')
    (folder / 'good.json').write_text(json.dumps(document()))
    report(ready=True)
    for index, (change, content) in enumerate(malformed_files(seed, count)):
        if index < first:
            continue
        kind = USES[index % len(USES)]
        path = folder / 'case.json'
        path.write_bytes(content)
        report(case=index, change=change, use=kind)
        result, message = outcome(folder, path, kind)
        report(case=index, outcome=result, message=message)
        shutil.rmtree(folder / 'out', ignore_errors=True)
        if index == len(USES) - 1:
            gc.freeze()  # MMEngine searches all that is loaded for garbage at each data set
            report(loaded_bytes=peak_bytes())
    report(peak_bytes=peak_bytes())


def peak_bytes() -> int | None:
    # Not from getrusage: that counts the memory of the process that has started this one.
    peak_kb = re.search(r'VmHWM:\s*(\d+) kB', Path('/proc/self/status').read_text())
    return int(peak_kb[1]) * 1024 if peak_kb else None


def report(**facts: Any) -> None:
    sys.__stdout__.write(json.dumps(facts) + '\n')
    sys.__stdout__.flush()


if __name__ == '__main__':
    main()
