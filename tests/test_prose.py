"""Plain modern English: words and patterns that read like riddles stay out."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ('cuts3d_mm', 'tools', 'configs', 'docs', 'README.md', 'CONTRIBUTING.md')
SUFFIXES = {'.py', '.md', '.sh'}
ARCHAIC = re.compile(
    r'\b(anew|for\s+want\s+of|cannot\s+be\s+had|told\s+of|so\s+many|mend(ed|s|ing)?|beside)\b',
    re.IGNORECASE,
)
HEADLESS = re.compile(r'^\s*(?:\w+(?: \([^)]*\))?: )?of\b')
# Headless texts are looked for here; the list grows to all of the package.
COVERED = (
    *('app', 'datasets', 'demo', 'engine', 'evaluation', 'files', 'hub', 'images', 'labels'),
    *('models', 'scenes', 'structures', 'visualization', 'weights'),
    *('../tools', '../configs', '../benchmarks'),
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


def docstring_entries(tree):
    """First lines of what a docstring says of each argument, result and error, with their line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (ast.get_docstring(node) or '').splitlines()
            start = node.body[0].lineno if lines else 0
            for number, line in enumerate(lines):
                if re.match(r'\s+\w+(?: \([^)]*\))?: ', line):
                    yield start + number, line


def help_texts(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ('help', 'description'):
            if isinstance(node.value, ast.Constant):
                yield node.value.lineno, node.value.value


def comments(path):
    """Comments without those that go on with the line above."""
    last = None
    with path.open('rb') as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                if last != (row - 1, column):
                    yield row, token.string.lstrip('# ')
                last = row, column


def headless(path):
    tree = ast.parse(path.read_text('utf-8'))
    found = [*docstring_entries(tree), *help_texts(tree), *comments(path)]
    return [f'{path.name}:{row}: {text.strip()}' for row, text in found if HEADLESS.match(text)]


def test_arguments_help_and_comments_begin_with_a_noun():
    paths = [path for folder in COVERED for path in (ROOT / 'cuts3d_mm' / folder).rglob('*.py')]
    found = [text for path in sorted(paths) for text in headless(path)]
    assert not found, 'say whose: "device of the networks", not "of the networks"'


@pytest.mark.parametrize('page', ['README.md', 'docs/install.md'])
def test_install_lines_give_the_pinned_versions_and_one_opencv(page):
    text = (ROOT / page).read_text('utf-8')
    line = (
        "uv pip install '.[onedl,depth,hub,app,demo]' opencv-python-headless \\\n"
        '    --constraint requirements/onedl.txt --override requirements/overrides.txt\n'
    )
    assert text.count(line) == 1 and 'MMCV_WITH_OPS' not in text.partition(line)[0]


def test_mmcv_that_is_compiled_by_hand_is_the_pinned_one():
    (pin,) = re.findall(
        r'^onedl-mmcv==[\d.]+$', (ROOT / 'requirements/onedl.txt').read_text('utf-8'), re.M
    )
    named = re.findall(r'onedl-mmcv==[\d.]+', (ROOT / 'docs/install.md').read_text('utf-8'))
    assert named == [pin]
