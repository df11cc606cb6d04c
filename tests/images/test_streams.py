from __future__ import annotations

import io
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from cuts3d_mm.hub import client
from cuts3d_mm.images import streams
from cuts3d_mm.images.streams import PhotoSource, open_sources


def _photo():
    file = io.BytesIO()
    Image.new('RGB', (9, 7), (200, 30, 40)).save(file, 'PNG')
    return file.getvalue()


PNG = _photo()
WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(PNG) + PNG
MALFORMED = {
    'nothing': b'',
    'no HTTP': b'\x16\x03\x01\x02\x00 this is another protocol\r\n\r\n',
    'no status': b'HTTP/1.1 \r\n\r\n',
    'a status in words': b'HTTP/1.1 fine OK\r\n\r\n',
    'a long line': b'HTTP/1.1 200 OK\r\nX: ' + b'x' * 70_000 + b'\r\n\r\n',
    'many headers': b'HTTP/1.1 200 OK\r\n' + b'X: y\r\n' * 200 + b'\r\n',
    'half a body': b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n' + PNG,
    'a broken chunk': b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc',
    'a redirect to a file': b'HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n\r\n',
    'a redirect to nowhere': b'HTTP/1.1 302 F\r\nLocation: http://[::\r\n\r\n',
    'a redirect to itself': b'HTTP/1.1 302 F\r\nLocation: /photo.png\r\n\r\n',
    'a length below 0': b'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n',
    'no photo': b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi',
}


@pytest.fixture
def serve(monkeypatch):
    """Start a server that gives the same bytes to every request."""
    monkeypatch.setattr(client, 'PAUSES_S', (0.0, 0.0))
    monkeypatch.setattr(client, 'TIMEOUT_S', 2.0)
    servers = []

    def start(answer, more=b''):
        server = socket.create_server(('127.0.0.1', 0))
        servers.append(server)
        threading.Thread(target=_answer_all, args=(server, answer, more), daemon=True).start()
        return f'http://127.0.0.1:{server.getsockname()[1]}/photo.png'

    yield start
    for server in servers:
        server.close()


def _answer_all(server, answer, more):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            try:
                while b'\r\n\r\n' not in connection.recv(65536):
                    pass
                connection.sendall(answer)
                while more:
                    connection.sendall(more)
            except OSError:
                continue


def frame_of(url):
    (source,) = open_sources([url])
    assert isinstance(source, PhotoSource)
    (frame,) = source.frames()
    return frame


def test_a_photo_is_fetched(serve):
    frame = frame_of(serve(WHOLE))
    assert frame.name == 'photo.png' and frame.failure is None
    assert (frame.pixels == np.array([200, 30, 40])).all()


@pytest.mark.parametrize('kind', MALFORMED)
def test_a_malformed_answer_is_the_record_of_its_photo(serve, kind):
    frame = frame_of(serve(MALFORMED[kind]))
    assert frame.pixels is None and frame.failure and '\n' not in frame.failure


@pytest.mark.parametrize('head', [b'', b'Content-Length: 99999999999\r\n'])
def test_a_body_without_end_is_not_read_to_its_end(serve, monkeypatch, head):
    monkeypatch.setattr(streams, 'LARGEST_PHOTO_BYTES', 2**21)
    frame = frame_of(serve(b'HTTP/1.1 200 OK\r\n' + head + b'\r\n', more=bytes(2**16)))
    assert frame.pixels is None and 'must have at most 2,097,152 bytes' in frame.failure


def test_a_photo_may_move_to_https_but_not_back():
    follow = client._Redirects().redirect_request
    for old, new, is_followed in (
        ('http', 'https', True),
        ('http', 'http', True),
        ('https', 'http', False),
        ('http', 'ftp', False),
        ('https', 'file', False),
    ):
        request = client.Request(f'{old}://host/x.png')
        arguments = (request, io.BytesIO(), 302, 'Found', {}, f'{new}://host/y.png')
        if is_followed:
            assert follow(*arguments).full_url == f'{new}://host/y.png'
        else:
            with pytest.raises(client.HubError, match='leads to another protocol'):
                follow(*arguments)
