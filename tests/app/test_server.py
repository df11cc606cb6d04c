from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

import pytest

pytest.importorskip('gradio')

from cuts3d_mm.app import server as page_module  # noqa: E402
from cuts3d_mm.app.server import Guard, is_loopback, launch, make_page  # noqa: E402


@pytest.fixture(scope='module', params=['127.0.0.1', 'localhost', '127.0.0.2'])
def address(request, tmp_path_factory):
    """Host and port of a served page that takes uploads."""
    folder = tmp_path_factory.mktemp('uploads')
    before = os.environ.get('GRADIO_TEMP_DIR')
    os.environ['GRADIO_TEMP_DIR'] = str(folder)
    site = make_page('Test')
    with site:
        import gradio

        gradio.File()
    found = urlsplit(launch(site, request.param, None, quiet=True, max_file_size='1mb'))
    yield found.hostname, found.port
    site.close()
    os.environ.pop('GRADIO_TEMP_DIR') if before is None else os.environ.update(
        GRADIO_TEMP_DIR=before
    )


def status(address, method='GET', path='/config', body=None, **headers):
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        words = {name.replace('_', '-'): value for name, value in headers.items()}
        connection.request(method, path, body, words)
        return connection.getresponse().status
    finally:
        connection.close()


def upload(address, size=1000, **headers):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
        b'Content-Type: image/png\r\n\r\n' + bytes(size) + b'\r\n--x--\r\n'
    )
    kind = {'Content_Type': 'multipart/form-data; boundary=x', **headers}
    return status(address, 'POST', '/gradio_api/upload', body, **kind)


FOREIGN = [
    {'Host': 'evil.example'},
    {'Host': 'evil.example:{port}'},
    {'Host': '127.0.0.1.evil.example:{port}'},
    {'Host': '[::'},
    {'Host': ''},
    {'Origin': 'http://evil.example'},
    {'Origin': 'null'},
    {'Origin': 'http://localhost:1'},
    {'Origin': 'https://{host}.evil.example:{port}'},
    {'Origin': 'http://[::'},
    {'Origin': 'file://'},
    {'Sec_Fetch_Site': 'cross-site'},
    {'Sec_Fetch_Site': 'cross-site', 'Origin': 'http://{host}:{port}'},
]


@pytest.mark.slow
def test_requests_of_other_sites_are_refused(address):
    host, port = address
    taken = []
    for headers in FOREIGN:
        words = {key: value.format(host=host, port=port) for key, value in headers.items()}
        for path in ('/', '/config', '/gradio_api/info'):
            if status(address, path=path, **words) not in (400, 403):
                taken.append((path, words))
        if upload(address, **words) not in (400, 403):
            taken.append(('upload', words))
        if status(address, 'POST', '/gradio_api/queue/join', b'{}', **words) not in (400, 403):
            taken.append(('join', words))
    assert not taken


@pytest.mark.slow
def test_the_page_itself_is_answered(address):
    host, port = address
    here = f'{host}:{port}'
    for headers in (
        {},
        {'Origin': f'http://{here}', 'Sec_Fetch_Site': 'same-origin'},
        {'Host': f'localhost:{port}', 'Origin': f'http://localhost:{port}'},
        {'Sec_Fetch_Site': 'none'},
    ):
        assert status(address, **headers) == 200
        assert upload(address, **headers) == 200


@pytest.mark.slow
def test_the_folder_of_uploads_has_a_limit(address, monkeypatch):
    monkeypatch.setattr(page_module, 'MOST_UPLOADED_BYTES', page_module._uploaded_bytes() + 9_000)
    assert upload(address, 6_000) == 200
    assert upload(address, 6_000) == 413
    assert upload(address, 1_000) == 200
    assert status(address) == 200


@pytest.mark.slow
def test_a_body_without_a_length_is_refused(address):
    assert status(address, 'POST', '/gradio_api/upload', iter([b'x'] * 3)) == 411


@pytest.mark.parametrize(
    ('host', 'expected'),
    [('localhost', True), ('127.0.0.1', True), ('127.9.8.7', True), ('::1', True),
     ('0.0.0.0', False), ('192.168.0.4', False), ('evil.example', False), ('', False)],
)  # fmt: skip
def test_addresses_of_this_machine_alone_are_known(host, expected):
    assert is_loopback(host) is expected


def test_a_server_for_other_machines_takes_any_name_but_no_other_site():
    from starlette.datastructures import Headers

    guard = Guard(None, is_local=False)
    assert (
        guard._foreign(Headers({'host': 'box.lab:7860', 'origin': 'http://box.lab:7860'})) is None
    )
    refusal = guard._foreign(Headers({'host': 'box.lab:7860', 'origin': 'http://evil.example'}))
    assert refusal is not None and refusal.status_code == 403
