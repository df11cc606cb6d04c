"""What the pages show is what the package does: their examples run, their options exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import write_depths, write_images

from cuts3d_mm.learning.plan import Folders

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / name for name in ('README.md', 'README_zh-CN.md', 'CONTRIBUTING.md')]
PAGES = sorted((ROOT / 'docs').rglob('*.md'))
BLOCK = re.compile(r'(<!-- run -->\n)?^```(bash|python|text)\n(.*?)^```', re.MULTILINE | re.DOTALL)


def blocks(language, path, only_run=False):
    found = BLOCK.findall(path.read_text('utf-8'))
    return [text for run, kind, text in found if kind == language and (run or not only_run)]


def commands(path):
    """Every call of `cuts3d` in a page: the command and its words."""
    for block in blocks('bash', path):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(line.split(' & ')[0], comments=True)
            if words[:1] == ['cuts3d'] and len(words) > 1:
                yield words[1], words[2:]


def test_every_command_and_option_in_the_texts_exists(cuts3d):
    helps, wrong = {}, []
    for path in TEXTS + PAGES:
        for command, words in commands(path):
            if command not in helps:
                helps[command] = cuts3d(command.replace('-', '_'), '--help')
            code, text, _ = helps[command]
            options = [word.split('=')[0] for word in words if word.startswith('--')]
            known = set(re.findall(r'--[\w-]+', text))
            wrong += [(path.name, command, one) for one in options if one not in known]
            wrong += [(path.name, command)] if code else []
    assert not wrong


def test_bash_reads_every_block_and_every_option_in_a_line_of_text():
    for path in TEXTS + PAGES:
        inline = re.findall(
            r'`((?:cuts3d \w[^`\n]*)?--cfg-options [^`\n]+)`', path.read_text('utf-8')
        )
        script = '\n'.join([*blocks('bash', path), *(f'true {one}' for one in inline)])
        run = subprocess.run(['bash', '-n'], input=script, capture_output=True, text=True)
        assert not run.returncode, (path.name, run.stderr)


def test_python_in_the_texts_names_what_exists():
    for path in TEXTS + PAGES:
        for block in blocks('python', path):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith('cuts3d_mm'):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names), path
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'cuts3d_mm':
                    assert hasattr(importlib.import_module('cuts3d_mm'), node.attr), path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where a reader stands: a few photos, and a depth map for each."""
    folder, rng = tmp_path_factory.mktemp('reader'), np.random.default_rng(0)
    names = write_images(folder / 'PHOTOS', 2, rng, (96, 128))
    write_depths(folder / 'DEPTH_MAPS', names, rng)
    shutil.copy(folder / 'PHOTOS' / names[0], folder / 'PHOTOS/one.png')
    first = (folder / 'DEPTH_MAPS' / names[0]).with_suffix('.npy')
    shutil.copy(first, folder / 'DEPTH_MAPS/one.npy')
    return folder


@pytest.mark.slow
def test_examples_of_the_quick_start_and_for_other_tools_run_in_order(folder, cuts3d, monkeypatch):
    monkeypatch.chdir(folder)
    for page in ('quick_start.md', 'recipes/integrations.md', 'recipes/coming_from.md'):
        if page != 'quick_start.md':  # in place of the labels by DINO, which is downloaded
            shutil.copytree('LABELS_3D', 'LABELS', dirs_exist_ok=True)
        for block in blocks('bash', ROOT / 'docs' / page, only_run=True):
            for line in block.splitlines():
                code, _, errors = cuts3d(*shlex.split(line, comments=True)[1:])
                assert code == 0, (line, errors)
    written = {path.name for path in folder.iterdir()}
    assert {'LABELS_2D', 'PICTURES_2D', 'LABELS_3D', 'PICTURES_3D', 'stages.png'} <= written
    tree = blocks('text', ROOT / 'docs/quick_start.md')[0]
    named = {line.split()[1] for line in tree.splitlines()[1:]}
    assert named == {path.name for path in Path('LABELS_3D').iterdir()}


def test_the_tree_of_out_names_what_learn_writes():
    tree = blocks('text', ROOT / 'docs/recipes/own_images.md')[0]
    named = {line.split()[1].rstrip('/') for line in tree.splitlines()[1:]}
    written = {str(path.relative_to('/out')) for path in vars(Folders(Path('/out'))).values()}
    assert named == written - {'.'} | {'detections'}


def test_headings_answer_what_people_search_for():
    headings = [
        line.lower()
        for path in PAGES
        for line in path.read_text('utf-8').splitlines()
        if line.startswith('#')
    ]
    for words in ('own loss', 'windows', 'sam', 'configs'):
        assert any(words in heading for heading in headings), words


@pytest.mark.slow
@pytest.mark.parametrize('page', ['quick_start.md', 'label_format.md', 'extend.md'])
def test_python_examples_run(folder, cuts3d, monkeypatch, page):
    monkeypatch.chdir(folder)
    if not Path('LABELS').exists():
        generate = ['generate', 'cuts3d_color-texture_file-depth', 'PHOTOS', 'LABELS']
        assert cuts3d(*generate, '--depth', 'DEPTH_MAPS')[0] == 0
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (96, 128, 3), np.uint8)
    for block in blocks('python', ROOT / 'docs' / page, only_run=True):
        exec(block, {'image': image, 'depth': rng.random((48, 64))})


@pytest.mark.slow
def test_configs_with_a_class_or_a_rule_of_their_own_run(folder, cuts3d, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'path', [*sys.path])
    own, inherits, rule = blocks('python', ROOT / 'docs/extend.md')[-3:]
    classes = own.partition('model = ')[0]
    (tmp_path / 'my_config.py').write_text(own)
    (tmp_path / 'brightness.py').write_text(classes)
    (tmp_path / 'inherits.py').write_text(inherits)
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere/parts_of_mine.py').write_text(classes)
    (tmp_path / 'elsewhere.py').write_text(inherits.replace('brightness.', 'parts_of_mine.'))
    imports = ('--import', tmp_path / 'elsewhere/parts_of_mine.py')
    for name, options in (('my_config', ()), ('inherits', ()), ('elsewhere', imports)):
        out = tmp_path / f'labels-{name}'
        arguments = (tmp_path / f'{name}.py', folder / 'PHOTOS', out, '--workers', 0, *options)
        code, _, errors = cuts3d('generate', *arguments)
        assert code == 0, (name, errors)
        assert '.Brightness"' in (out / 'run.json').read_text()
    (tmp_path / 'my_rule.py').write_text(rule)
    (tmp_path / 'elsewhere/rules_of_mine.py').write_text(rule)
    changed = '--cfg-options', 'model.recipe.local_cut.capacity=rules_of_mine.heavy_tail'
    imports = ('--import', tmp_path / 'elsewhere/rules_of_mine.py', *changed)
    shipped, found = 'cuts3d_color-texture_file-depth', []
    for config, options in ((shipped, ()), (tmp_path / 'my_rule.py', ()), (shipped, imports)):
        inputs = folder / 'PHOTOS/one.png', '--depth', folder / 'DEPTH_MAPS'
        call = 'explain', config, *inputs, '--out', tmp_path / 'x.png', '--json', *options
        code, text, errors = cuts3d(*call)
        assert code == 0, errors
        found.append(text)
    assert found[0] != found[1] == found[2]


def test_pictures_of_the_pages_are_there_and_have_a_text():
    for path in TEXTS + PAGES:
        for text, target in re.findall(r'!\[([^\]]*)\]\(([^)]+)\)', path.read_text('utf-8')):
            if 'badge' in target or 'shields.io' in target:
                continue
            own = re.sub(r'^https://raw\S+/main/', f'{ROOT}/', target)
            assert text and (path.parent / own).is_file(), (path, target)


def test_links_of_the_readme_lead_to_pages_and_files_that_exist():
    readme = (ROOT / 'README.md').read_text('utf-8')
    for page in re.findall(r'github\.io/cuts3d_mm/([\w/]+)/', readme):
        assert (ROOT / f'docs/{page}.md').is_file(), page
    for name in re.findall(r'cuts3d_mm/(?:blob|tree)/main/([\w./-]+)', readme):
        assert (ROOT / name).exists(), name


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text('utf-8').splitlines()) < 150


def code_of(path):
    """The blocks of a page without their comments, which are in its language."""
    found = []
    for _, kind, text in BLOCK.findall(path.read_text('utf-8')):
        if kind == 'python':
            found.append(ast.dump(ast.parse(text)))
        elif kind == 'bash':
            found.append(shlex.split(text, comments=True))
        else:
            found.append([line.split()[:2] for line in text.splitlines()])
    return found


@pytest.mark.parametrize('page', ['README.md', 'docs/index.md', 'docs/quick_start.md'])
def test_commands_and_code_of_the_chinese_pages_are_those_of_the_english(page):
    chinese = {'README.md': 'README_zh-CN.md'}.get(page, page.replace('docs/', 'docs/zh/'))
    assert code_of(ROOT / chinese) == code_of(ROOT / page)
    figures = [
        re.findall(r'\d+\.\d\d\b', (ROOT / one).read_text('utf-8')) for one in (page, chinese)
    ]
    assert figures[0] == figures[1]
