"""Reserve the folder that detections are written to; files of others stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cuts3d_mm.files.atomic import remove_leftovers, write_whole
from cuts3d_mm.files.lock import hold_folder

PICTURES, MASKS, LABELS, DETECTIONS = 'pictures', 'masks', 'labels', 'detections.json'
_MARK = 'detect.json'
_COMMAND = 'cuts3d detect'
_LABEL_FILES = re.compile(r'labels-\d{6}\.parquet|failures\.jsonl|unpacked\.arrow')


@contextmanager
def claim_output(folder: Path) -> Iterator[None]:
    """Keep others out of a folder, and empty the label store of an earlier detection in it.

    Raises:
        FileExistsError: it holds something of our names that no earlier detection made.
        FolderInUse: another process writes into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold_folder(folder):
        _require_ours(folder)
        write_whole(folder / _MARK, json.dumps({'made_by': _COMMAND}) + '\n')
        (folder / LABELS).mkdir(exist_ok=True)
        for name in (PICTURES, MASKS, LABELS):
            remove_leftovers(folder / name)
        for path in _label_files(folder / LABELS):
            path.unlink()
        yield


def _require_ours(folder: Path) -> None:
    found = [name for name in (PICTURES, MASKS, LABELS, DETECTIONS) if _is_filled(folder / name)]
    if found and not _is_marked(folder):
        raise FileExistsError(
            f'{folder} must be new or hold an earlier detection, it has {", ".join(found)} of '
            'something else; choose another --out'
        )
    for name in (PICTURES, MASKS, LABELS):
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise FileExistsError(f'{path} must be a folder of its own, it is none')


def _is_filled(path: Path) -> bool:
    return path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir()))


def _is_marked(folder: Path) -> bool:
    try:
        content = json.loads((folder / _MARK).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get('made_by') == _COMMAND


def _label_files(store: Path) -> list[Path]:
    paths = [path for path in sorted(store.iterdir()) if not path.name.endswith('.partial')]
    strange = [path.name for path in paths if not _LABEL_FILES.fullmatch(path.name)]
    if strange:
        raise FileExistsError(
            f'{store} must hold nothing but an earlier detection, it has {", ".join(strange)}; '
            'choose another --out'
        )
    return paths
