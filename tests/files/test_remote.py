"""Places of files: local paths and objects in a bucket, whatever is in them."""

from __future__ import annotations

import sys

import pytest

from cuts3d_mm.files import remote
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.remote import BucketError, BucketPath, find_place

pytest.importorskip('moto')
from helpers.servers import serve_bucket  # noqa: E402


@pytest.fixture
def bucket():
    with serve_bucket() as bucket:
        yield bucket


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('labels', 'labels'),
        ('/data/a b', '/data/a b'),
        ('file:///data/a%20b', '/data/a b'),
        ('s3://b/labels', 's3://b/labels'),
        ('s3://b/labels/', 's3://b/labels'),
        ('S3://b', 's3://b'),
    ],
)
def test_a_path_or_uri_names_a_place(text, shown):
    place = find_place(text)
    assert str(place) == shown and find_place(place) is place


@pytest.mark.parametrize(
    'text',
    ['gs://b/x', 'https://b/x', 's3://', 's3:///x', 's3://b//x', 's3://b/../x', 'file://host/x'],
)
def test_another_uri_is_refused(text):
    with pytest.raises(ValueError, match='must be a path, file:///PATH or s3://BUCKET/PREFIX'):
        find_place(text)


def test_an_object_is_asked_as_a_path_is(bucket):
    folder = find_place('s3://cuts3d/x')
    assert not folder.exists() and list(folder.glob('*')) == []
    bucket.put('x/a.txt', b'some text')
    bucket.put('x/b/c.txt', b'c')
    bucket.put('xy/d.txt', b'd')
    file = folder / 'a.txt'
    assert folder.is_dir() and not folder.is_file() and file.is_file() and not file.is_dir()
    assert file.name == 'a.txt' and file.suffix == '.txt' and file.parent == folder
    assert file.stat().st_size == 9 and file.stat().st_mtime_ns > 0
    assert list(folder.glob('*.txt')) == [file]
    assert set(folder.list_files(recursive=True)) == {'a.txt', 'b/c.txt'}
    assert file.read_text(encoding='utf-8') == 'some text'
    with file.open('rb') as opened:
        opened.seek(5)
        assert opened.read() == b'text'
    with pytest.raises(FileNotFoundError, match='s3://cuts3d/x/none'):
        (folder / 'none').read_bytes()


def test_a_file_is_there_when_it_is_uploaded_whole_or_not_at_all(bucket):
    place = find_place('s3://cuts3d/out/file')
    with open_atomically(place) as file:
        file.write(b'whole')
        assert bucket.content('out') == {}
    assert bucket.content('out') == {'file': b'whole'}
    with pytest.raises(OSError, match='disk'), open_atomically(place) as file:
        file.write(b'half')
        raise OSError('disk')
    assert bucket.content('out') == {'file': b'whole'}


def test_an_upload_that_breaks_off_publishes_nothing(bucket, monkeypatch):
    monkeypatch.setattr(remote, '_ATTEMPTS', 1)
    put_part = type(bucket.objects).upload_part

    def fail_after_the_first(self, *arguments, **named):
        if self.parts_taken:
            raise RuntimeError('no room')
        self.parts_taken = True
        return put_part(self, *arguments, **named)

    monkeypatch.setattr(type(bucket.objects), 'parts_taken', False, raising=False)
    monkeypatch.setattr(type(bucket.objects), 'upload_part', fail_after_the_first)
    place = find_place('s3://cuts3d/out/file')
    with pytest.raises(BucketError, match='cannot be reached'), open_atomically(place) as file:
        file.write(bytes(30_000_000))
    assert bucket.content('out') == {}


def test_what_goes_wrong_names_the_object_and_the_remedy(bucket, monkeypatch):
    with pytest.raises(BucketError, match='NO_SUCH_BUCKET.*check that the bucket is there'):
        with open_atomically(find_place('s3://none-of-that-name/file')) as file:
            file.write(b'content')
    monkeypatch.setattr(remote, '_ATTEMPTS', 1)
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    with pytest.raises(BucketError, match='s3://cuts3d/x cannot be .*AWS_ENDPOINT_URL'):
        find_place('s3://cuts3d/x').exists()


def test_a_pyarrow_without_s3_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow.fs', type(sys)('pyarrow.fs'))
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9999')
    with pytest.raises(ImportError, match='needs a pyarrow with S3.*pip install'):
        BucketPath('b/x').exists()
