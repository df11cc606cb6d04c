"""Read and write files by their place: a path on this machine, or an object in an S3 bucket."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from .paths import shown

T = TypeVar('T')
BUFFER_BYTES = 2**23  # size of a request for a part of an object
_URI = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
_REQUESTS = 16  # requests at a time
_CONNECT_S, _ANSWER_S = 10.0, 60.0
_ATTEMPTS = 6  # attempts of a request, with growing pauses
_REMEDY = (
    'check that the bucket is there, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION '
    'and, for a server other than Amazon, AWS_ENDPOINT_URL'
)


@dataclass(frozen=True)
class ObjectInfo:
    """Size and time of an object, under the names of `os.stat_result`."""

    st_size: int  # bytes
    st_mtime_ns: int  # time of the upload


class BucketPath(PurePosixPath):
    """A file or folder in an S3 bucket, BUCKET/FOLDER/NAME, with the methods of `Path` we need.

    A file is uploaded whole, in one step, so that a half file never has the name.
    """

    @property
    def key(self) -> str:
        """Name of the bucket and of the object in it."""
        return super().__str__()

    def __str__(self) -> str:
        return f's3://{self.key}'

    def resolve(self) -> BucketPath:
        """Return the path itself: a bucket has no links."""
        return self

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return bool(self._find().is_file)

    def is_dir(self) -> bool:
        """Whether there is an object below this name."""
        return bool(self._find().type.name == 'Directory')

    def exists(self) -> bool:
        """Whether there is an object of this name or below it."""
        return bool(self._find().type.name != 'NotFound')

    def stat(self) -> ObjectInfo:
        """Size and time of the object."""
        found = self._find()
        if not found.is_file:
            raise _not_found(str(self))
        return ObjectInfo(found.size, found.mtime_ns)

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Do nothing: a folder in a bucket exists when there is something in it."""

    def glob(self, pattern: str) -> Iterator[BucketPath]:
        """Files directly in the folder whose names match."""
        for name in self.list_files(recursive=False):
            if fnmatchcase(name, pattern):
                yield self / name

    def list_files(self, recursive: bool) -> dict[str, ObjectInfo]:
        """List the files of the folder, by their paths below it."""
        with _naming_object(str(self)):
            client = self._client()
            from pyarrow.fs import FileSelector

            selector = FileSelector(self.key, recursive=recursive, allow_not_found=True)
            found = client.get_file_info(selector)
        start = len(self.key) + 1
        return {
            one.path[start:]: ObjectInfo(one.size, one.mtime_ns) for one in found if one.is_file
        }

    def open(self, mode: str = 'rb') -> BinaryIO:
        """Open the object for reading, in large pieces and from any position."""
        if mode != 'rb':
            raise ValueError(f'an object is opened by rb, and written by publish(), got {mode}')
        with _naming_object(str(self)):
            file = self._client().open_input_file(self.key)
        return io.BufferedReader(_ObjectReader(str(self), file), BUFFER_BYTES)

    def read_bytes(self, most: int | None = None) -> bytes:
        """Read the whole object; ValueError if it has more bytes than `most`."""
        with _naming_object(str(self)):
            file = self._client().open_input_file(self.key)
            size = file.size()
        if most is not None and size > most:
            raise ValueError(f'must have at most {most} bytes, has {size}')
        with _naming_object(str(self)):
            return bytes(file.read(size))

    def read_text(self, encoding: str) -> str:
        """Read the whole object as text."""
        return self.read_bytes().decode(encoding)

    @contextmanager
    def publish(self) -> Iterator[BinaryIO]:
        """Write a file that is uploaded when the block ends, and not at all if it fails."""
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with _naming_object(str(self)):
                # Not as a context: a failed upload would then publish the bytes so far.
                target = self._client().open_output_stream(self.key)
                shutil.copyfileobj(file, target, BUFFER_BYTES)
                target.close()

    def _find(self) -> Any:
        with _naming_object(str(self)):
            return self._client().get_file_info(self.key)

    def _client(self) -> Any:
        """Connect by the environment variables that Amazon's own tools read."""
        read = os.environ.get
        endpoint = read('AWS_ENDPOINT_URL_S3') or read('AWS_ENDPOINT_URL')
        region = read('AWS_REGION') or read('AWS_DEFAULT_REGION')
        return _connect(self.key.partition('/')[0], endpoint, region)


Place = Path | BucketPath  # place of a file or folder


def find_place(text: str | Place) -> Place:
    """Parse a path, `file://PATH` or `s3://BUCKET/PREFIX`.

    Raises:
        ValueError: the scheme is another, or the bucket has no name.
    """
    if not isinstance(text, str):
        return text
    scheme = _URI.match(text)
    if scheme is None:
        return Path(text)
    kind, rest = scheme[1].lower(), text[scheme.end() :].rstrip('/')
    if kind == 's3' and all(part not in ('', '.', '..') for part in rest.split('/')):
        return BucketPath(rest)
    parts = urlsplit(text)
    if kind == 'file' and parts.netloc in ('', 'localhost') and parts.path:
        return Path(unquote(parts.path))
    raise ValueError(f'a place must be a path, file:///PATH or s3://BUCKET/PREFIX, got {text}')


def parquet_source(place: Place) -> Path | BinaryIO:
    """Give pyarrow a path, or an open object of a bucket or file whose name it cannot encode."""
    if isinstance(place, Path) and shown(str(place)) == str(place):
        return place
    return place.open('rb')


def existing(places: Sequence[Place]) -> list[Place]:
    """Select the files that exist, out of files in one folder; one request to a bucket."""
    folder = places[0].parent if places else None
    if not isinstance(folder, BucketPath):
        return [place for place in places if place.is_file()]
    there = folder.list_files(recursive=False)
    return [place for place in places if place.name in there]


def map_files(function: Callable[[Place], T], places: Sequence[Place]) -> Iterator[T]:
    """Apply a function to files in their order; files in a bucket many at a time."""
    if not any(isinstance(place, BucketPath) for place in places):
        yield from map(function, places)
        return
    with ThreadPoolExecutor(_REQUESTS) as pool:
        yield from pool.map(function, places)


class BucketError(RuntimeError):
    """A bucket does not answer, or answers wrongly; this says nothing about a file in it."""


@cache
def _connect(bucket: str, endpoint: str | None, region: str | None) -> Any:
    try:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region
    except ImportError as error:
        raise ImportError(
            's3:// needs a pyarrow with S3, this one is built without; install the wheel of '
            'PyPI (pip install --force-reinstall pyarrow) or that of conda-forge'
        ) from error
    if not (region or endpoint):
        region = resolve_s3_region(bucket)
    return S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=_CONNECT_S,
        request_timeout=_ANSWER_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


@contextmanager
def _naming_object(uri: str) -> Iterator[None]:
    """Name the object in the errors of pyarrow."""
    try:
        yield
    except FileNotFoundError as error:
        raise _not_found(uri) from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise BucketError(f'{uri} cannot be reached: {error}; {_REMEDY}') from error


def _not_found(uri: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)


class _ObjectReader(io.RawIOBase):
    """An open object whose errors name it."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _naming_object(self._uri):
            return int(self._file.readinto(buffer))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())
