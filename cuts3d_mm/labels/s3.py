"""Reach S3 buckets, and name the object in what goes wrong."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO

BUFFER_BYTES = 2**23  # of a request for a part of an object
_CONNECT_S, _ANSWER_S = 10.0, 60.0
_ATTEMPTS = 6  # of a request, with growing pauses
_REMEDY = (
    'check that the bucket is there, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION '
    'and, for a server other than Amazon, AWS_ENDPOINT_URL'
)


class BucketError(RuntimeError):
    """A bucket does not answer, or not as it must; no fact about a file in it."""


def file_system(bucket: str) -> Any:
    """Client for a bucket, by the environment variables that Amazon's own tools read."""
    read = os.environ.get
    endpoint = read('AWS_ENDPOINT_URL_S3') or read('AWS_ENDPOINT_URL')
    return _client(bucket, endpoint, read('AWS_REGION') or read('AWS_DEFAULT_REGION'))


@cache
def _client(bucket: str, endpoint: str | None, region: str | None) -> Any:
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


def list_objects(files: Any, key: str, recursive: bool) -> list[Any]:
    """Objects below a key, without what stands for folders; each has path, size and time."""
    from pyarrow.fs import FileSelector

    selector = FileSelector(key, recursive=recursive, allow_not_found=True)
    return [one for one in files.get_file_info(selector) if one.is_file]


@contextmanager
def naming_object(uri: str) -> Iterator[None]:
    """Name the object in the errors of pyarrow."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(uri) from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise BucketError(f'{uri} cannot be reached: {error}; {_REMEDY}') from error


def not_found(uri: str) -> FileNotFoundError:
    """The error of an object that is not there."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)


def buffered_reader(uri: str, file: Any) -> BinaryIO:
    """Read an open object in large pieces."""
    return io.BufferedReader(_ObjectReader(uri, file), BUFFER_BYTES)


class _ObjectReader(io.RawIOBase):
    """An open object whose errors name it."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        with naming_object(self._uri):
            return int(self._file.readinto(buffer))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Position."""
        return int(self._file.tell())
