"""Downloads from a server that cuts, refuses and lies."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cuts3d_mm.hub import client
from cuts3d_mm.hub.client import HubError

CONTENT = np.random.default_rng(0).bytes(3_000_001)


class Server:
    """What the next answers are; `asked` are the ranges of the requests."""

    def __init__(self):
        self.asked, self.cuts, self.statuses, self.headers = [], [], [], {'ETag': '"one"'}
        self.knows_ranges, self.has_length, self.location = True, True, None


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        state = self.server.state
        state.asked.append(self.headers.get('Range'))
        status = state.statuses.pop(0) if state.statuses else 200
        if status != 200:
            self.send_response(status)
            if state.location:
                self.send_header('Location', state.location)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        begin = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        is_same = self.headers.get('If-Range') == state.headers.get('ETag')
        begin = int(begin[1]) if begin and is_same and state.knows_ranges else 0
        self.send_response(206 if begin else 200)
        for name, value in state.headers.items():
            self.send_header(name, value)
        if begin:
            self.send_header('Content-Range', f'bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}')
        if state.has_length:
            self.send_header('Content-Length', str(len(CONTENT) - begin))
        self.end_headers()
        end = state.cuts.pop(0) if state.cuts else len(CONTENT)
        self.wfile.write(CONTENT[begin:end])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(client, 'PAUSES_S', (0.0, 0.0, 0.0, 0.0))
    http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    http.state = Server()
    http.state.url = f'http://127.0.0.1:{http.server_port}/w.pth'
    thread = threading.Thread(target=http.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    yield http.state
    http.shutdown()
    http.server_close()
    thread.join()


def download(server, tmp_path):
    client.download_url(server.url, tmp_path / 'w.pth')
    return (tmp_path / 'w.pth').read_bytes()


def test_a_file_is_downloaded(server, tmp_path):
    assert download(server, tmp_path) == CONTENT and server.asked == [None]


def test_a_download_that_is_cut_goes_on_where_it_was(server, tmp_path):
    server.cuts = [1_500_000, 2_700_000]
    assert download(server, tmp_path) == CONTENT
    assert server.asked == [None, 'bytes=1500000-', 'bytes=2700000-']


def test_a_server_without_ranges_begins_again(server, tmp_path):
    server.cuts, server.knows_ranges = [1_500_000], False
    assert download(server, tmp_path) == CONTENT


def test_content_that_changed_in_between_is_not_mixed(server, tmp_path):
    server.cuts, server.headers = [1_500_000], {}
    assert download(server, tmp_path) == CONTENT and server.asked == [None, None]


@pytest.mark.parametrize('status', [429, 500, 503])
def test_answers_that_pass_are_asked_again(server, tmp_path, status):
    server.statuses = [status, status]
    assert download(server, tmp_path) == CONTENT


@pytest.mark.parametrize(('status', 'count'), [(404, 1), (403, 1), (503, 5)])
def test_refusals_are_one_line_and_leave_nothing(server, tmp_path, status, count):
    server.statuses = [status] * 9
    with pytest.raises(HubError, match=rf'w\.pth cannot be downloaded: .*{status}') as error:
        download(server, tmp_path)
    assert '\n' not in str(error.value) and len(server.asked) == count
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('has_length', [True, False])
def test_what_is_too_large_is_refused(server, tmp_path, monkeypatch, has_length):
    monkeypatch.setattr(client, 'LARGEST_DOWNLOAD_BYTES', 2_000_000)
    server.has_length = has_length
    with pytest.raises(HubError, match='must have at most 2,000,000 bytes'):
        download(server, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'target', ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'https://127.0.0.1/']
)
def test_redirects_to_another_protocol_are_refused(server, tmp_path, target):
    server.statuses, server.location = [302], target
    with pytest.raises(HubError):
        download(server, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'url', ['https://[', 'https://a b/c', 'https://127.0.0.1:x/', 'https:///']
)
def test_addresses_that_are_none_are_one_line(tmp_path, url, monkeypatch):
    monkeypatch.setattr(client, 'PAUSES_S', ())
    with pytest.raises(HubError, match='cannot be downloaded'):
        client.download_url(url, tmp_path / 'w')
