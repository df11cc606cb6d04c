"""Read the entries of a large JSON file one at a time, in limited memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO, Any, NamedTuple

import ijson

from cuts3d_mm.files.remote import Place

MAX_DEPTH = 32  # nested lists and objects of an entry; COCO needs 3
MAX_ENTRY_BYTES = 2**23  # of JSON text; the largest of COCO and LVIS have less than 2**18
_BYTE_ORDER_MARK = b'\xef\xbb\xbf'

Events = Iterator[tuple[str, Any]]


class Entry(NamedTuple):
    """One element of a list at the top of the file."""

    part: str  # name of the list
    position: int
    value: Any

    @property
    def where(self) -> str:
        """Name of the entry in a message, such as `images[12]`."""
        return f'{self.part}[{self.position}]'


def read_entries(path: Place, parts: Collection[str]) -> Iterator[Entry]:
    """Read the lists of a JSON object, in the order of the file; all else is passed over.

    Args:
        path: the file.
        parts: keys of the lists, each of which must be there once.

    Raises:
        ValueError: the file is no JSON object with these lists, or goes beyond a limit. The
            message does not name the file.
    """
    with path.open('rb') as file:
        source = _Source(file)
        try:
            yield from _read_object(ijson.basic_parse(source, use_float=True), source, parts)
        except ijson.JSONError as error:
            raise ValueError(f'must be whole JSON in UTF-8: {_reason(error)}') from error


class _Source:
    """A file that may be read only so far from where an entry begins."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._num_bytes = 0
        self._where = 'the beginning'
        if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
            file.seek(0)

    def begin(self, where: str) -> None:
        self._num_bytes, self._where = 0, where

    def read(self, size: int = -1) -> bytes:
        self._num_bytes += size
        if self._num_bytes > MAX_ENTRY_BYTES:
            raise ValueError(f'{self._where} must be at most {MAX_ENTRY_BYTES} bytes long')
        return self._file.read(size)


def _read_object(events: Events, source: _Source, parts: Collection[str]) -> Iterator[Entry]:
    if next(events)[0] != 'start_map':
        raise ValueError('must hold one JSON object')
    found = set()
    for event, key in events:
        if event == 'end_map':
            break
        if key in found:
            raise ValueError(f'{key[:40]!r} must be there once')
        found.add(key)
        source.begin(repr(key[:40]))
        event, _ = next(events)
        if key not in parts:
            _pass_over(events, source, event, key[:40])
        elif event == 'start_array':
            yield from _read_list(events, source, key)
        else:
            raise ValueError(f'{key!r} must be a list')
    for _ in events:  # the parser refuses what follows the object
        raise ValueError('must hold one JSON object')
    missing = [part for part in parts if part not in found]
    if missing:
        raise ValueError(f'{missing[0]!r} must be there')


def _read_list(events: Events, source: _Source, part: str) -> Iterator[Entry]:
    index = 0
    for event, value in events:
        if event == 'end_array':
            return
        entry = Entry(part, index, None)
        source.begin(entry.where)
        yield entry._replace(value=_build(events, event, value, entry))
        index += 1
        source.begin(f'{part}[{index}]')


def _build(events: Events, event: str, value: Any, entry: Entry) -> Any:
    """Put together the value that begins with an event."""
    if event not in ('start_map', 'start_array'):
        return value
    top: Any = {} if event == 'start_map' else []
    key = ''
    outer: list[Any] = []
    for event, value in events:
        if event == 'map_key':
            if value in top:
                raise ValueError(f'{entry.where} must have {value[:40]!r} once')
            key = value
            continue
        if event == 'end_map' or event == 'end_array':
            if not outer:
                return top
            top = outer.pop()
            continue
        is_nested = event == 'start_map' or event == 'start_array'
        inner = ({} if event == 'start_map' else []) if is_nested else value
        if type(top) is list:
            top.append(inner)
        else:
            top[key] = inner
        if is_nested:
            outer.append(top)
            if len(outer) >= MAX_DEPTH:
                raise ValueError(f'{entry.where} must be nested at most {MAX_DEPTH} deep')
            top = inner
    raise ValueError(f'{entry.where} must have an end')


def _pass_over(events: Events, source: _Source, event: str, key: str) -> None:
    depth = 0
    while True:
        if event in ('start_map', 'start_array'):
            depth += 1
        elif event in ('end_map', 'end_array'):
            depth -= 1
        if depth == 0:
            return
        if depth > MAX_DEPTH:
            raise ValueError(f'{key!r} must be nested at most {MAX_DEPTH} deep')
        if depth == 1:
            source.begin(repr(key))
        event, _ = next(events)


def _reason(error: Exception) -> str:
    """First line of what the parser says; some of its messages are bytes."""
    said = error.args[0] if error.args else ''
    text = said.decode('utf-8', 'replace') if isinstance(said, bytes) else str(said)
    return text.strip().split('\n')[0]
