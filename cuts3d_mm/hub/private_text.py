"""Keep secrets and local paths out of what is published."""

from __future__ import annotations

import re
from typing import Any

_SECRET_KEY = re.compile(
    r'(?i)(^|[_\-. ])(api_?key|access_?key(_?id)?|secret(_?\w*)?|private_?key|passw(or)?d|passwd|'
    r'pwd|credentials?|auth|authorization|bearer|cookie|(\w*_)?token)$'
)
# Texts that look like a secret in any place.
_SECRETS = {
    'a token of the Hugging Face Hub': r'\bhf_[A-Za-z0-9]{8,}',
    'a key of a cloud storage': r'\b(AKIA|ASIA)[A-Z0-9]{12,}|\bAIza[\w-]{20,}',
    'a token of a code host or chat': r'\b(gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[\w-]{10,}',
    'an API key': r'\bsk-[\w-]{16,}|\bwandb_\w{16,}',
    'a private key': r'-----BEGIN [A-Z ]*PRIVATE KEY',
    'a password in an address': r'(?i)\b[a-z][a-z0-9+.-]{0,15}://[^\s/@:]{0,200}:[^\s/@]{1,200}@',
    'a signature in an address': r'(?i)[?&]([\w-]*(token|signature|credential|passw\w*|secret|'
    r'api_?key)|sig|key)=[^\s&]{4,}',
    'a password': r'(?i)\b(api_?key|secret|passw(or)?d|(hf_|access_)?token)\s*[=:]\s*[^\s,;]{4,}',
}
_SECRET_TEXTS = {what: re.compile(pattern) for what, pattern in _SECRETS.items()}
_ADDRESS = r'(?i:\b(?!file:)[a-z][a-z0-9+.-]{1,15}://[^\s\'"<>]+)'
_PLACE = r'[^\s\'"<>|,;()\[\]{}]*'
_START = r'(?:[A-Za-z]:[\\/]|\\\\|~|/(?=[\w.~@$%+-])|(?:\.[\\/])*\.\.[\\/])'
_PATH = re.compile(
    rf'(?P<address>{_ADDRESS})'
    rf"|(?<=')(?i:file:)?{_START}[^'\n]*(?=')"  # a quoted path may hold spaces
    rf'|(?<=")(?i:file:)?{_START}[^"\n]*(?=")'
    rf'|(?i:file:)/*{_PLACE}'
    rf'|(?<!\w)[A-Za-z]:[\\/]{_PLACE}'
    rf'|\\\\[\w.$-]+\\{_PLACE}'  # a Windows share
    rf'|(?<![\w.~/\\-])~[\w.-]*[\\/]{_PLACE}'
    rf'|(?<![\w.~/\\-])~[\w.-]+'
    rf'|^~$'
    rf'|(?<![\w.])(?:\.[\\/])*\.\.[\\/]{_PLACE}'
    rf'|(?<![\w.~/\\)\]])/[\w.~@$%+-]{_PLACE}'
)
_FILE_NAME = re.compile(r'[\w.+-]{1,80}\.[A-Za-z]\w{0,11}')
FOLDER = '<local folder>'


def refuse_secrets(value: Any, place: str) -> None:
    """Check nested containers for what looks like a secret.

    Args:
        value: content that is to be published.
        place: name of the content, for the error.

    Raises:
        ValueError: something looks like a secret; the message names the place, not the secret.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if _SECRET_KEY.search(str(key)) and isinstance(item, (str, list, tuple)) and item:
                raise _refusal(f'{place}.{key}', 'a secret')
            refuse_secrets(str(key), f'a name in {place}')
            refuse_secrets(item, f'{place}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            refuse_secrets(item, f'{place}[{index}]')
    elif isinstance(value, str):
        for what, pattern in _SECRET_TEXTS.items():
            if pattern.search(value):
                raise _refusal(place, what)


def without_local_paths(value: Any) -> Any:
    """Replace local paths in nested containers, also inside longer texts.

    The path of a file becomes its name. The path of a folder is removed whole, since a folder may
    be named after a person. Addresses such as `https://...` are no local paths.
    """
    if isinstance(value, dict):
        return {without_local_paths(key): without_local_paths(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_local_paths(item) for item in value)
    if not isinstance(value, str):
        return value
    found = _PATH.match(value)
    is_all_path = found is not None and not found['address'] and '\n' not in value
    if is_all_path and re.fullmatch(r'[^:;,\'"]*', value[2:]):  # its folders may hold spaces
        return _last_part(value)
    return _PATH.sub(lambda part: part['address'] or _last_part(part[0]), value)


def _last_part(path: str) -> str:
    last = re.split(r'[\\/]', path)[-1]
    return last if _FILE_NAME.fullmatch(last) else FOLDER


def _refusal(place: str, what: str) -> ValueError:
    return ValueError(
        f'nothing secret may be published, {place} looks like {what}; remove it and try again'
    )
