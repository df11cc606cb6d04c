"""Plain modern English: words and patterns that read like riddles stay out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ('cuts3d_mm', 'tools', 'configs', 'docs', 'README.md', 'CONTRIBUTING.md')
SUFFIXES = {'.py', '.md', '.sh'}
ARCHAIC = re.compile(
    r'\b(anew|for\s+want\s+of|cannot\s+be\s+had|told\s+of|so\s+many|mend(ed|s|ing)?|beside)\b',
    re.IGNORECASE,
)
X_IN_Y_OUT = re.compile(r'\bin[,;:.] .*\bout\b|\bin .*, .*\bout[.:]')


def files():
    for place in PLACES:
        path = ROOT / place
        found = [path] if path.is_file() else path.rglob('*')
        yield from (p for p in sorted(found) if p.suffix in SUFFIXES and '.mim' not in p.parts)


def test_texts_use_none_of_the_archaic_words():
    found = [
        f'{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}'
        for path in files()
        for text in [path.read_text(encoding='utf-8')]
        for match in ARCHAIC.finditer(text)
    ]
    assert not found, 'write again, out of, cannot be downloaded, N, correct, next to, ...'


def test_module_docstrings_say_in_a_sentence_what_the_module_does():
    found = {
        str(path.relative_to(ROOT)): summary
        for path in files()
        if path.suffix == '.py'
        for summary in [(ast.get_docstring(ast.parse(path.read_text('utf-8'))) or '')]
        if X_IN_Y_OUT.search(summary.partition('\n\n')[0].replace('\n', ' '))
    }
    assert not found, 'a docstring of the form "X in, Y out"; say what the module does'


@pytest.mark.parametrize(
    'summary',
    [
        'Depth in, how close each patch lies to a 3D edge out (Eq. 1-2).',
        'A photo, and a depth map where there is one, in; the stages of the recipe out.',
        'The paper: arrays in, arrays out. Start with `cut_instances.py`.',
    ],
)
def test_pattern_finds_docstrings_of_the_form_x_in_y_out(summary):
    assert X_IN_Y_OUT.search(summary)


@pytest.mark.parametrize('package', ['torch', 'torchvision', 'onedl-mmcv'])
def test_install_lines_of_the_readme_give_the_pinned_versions(package):
    pins = (ROOT / 'requirements/onedl.txt').read_text('utf-8').splitlines()
    (pin,) = [line for line in pins if line.startswith(f'{package}==')]
    readme = (ROOT / 'README.md').read_text('utf-8')
    assert set(re.findall(rf'(?<![\w-]){package}==[\d.]+', readme)) == {pin}
