"""Files that hosts and indexes read: they name this version, this address and the same words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import cuts3d_mm

ROOT = Path(__file__).parents[1]
ADDRESS = 'https://github.com/cuts3d-mm/cuts3d_mm'


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text('utf-8'))


def test_citation_names_this_version_and_the_paper_of_the_method():
    citation = read_yaml('CITATION.cff')
    assert str(citation['version']) == cuts3d_mm.__version__
    assert citation['repository-code'] == ADDRESS
    assert citation['preferred-citation']['title'].startswith('CutS3D: ')


def test_bug_form_asks_for_the_output_of_the_doctor():
    form = read_yaml('.github/ISSUE_TEMPLATE/bug.yml')
    (field,) = [field for field in form['body'] if field.get('id') == 'doctor']
    assert field['attributes']['label'] == 'Output of `cuts3d doctor --json`'
    assert field['validations']['required']


@pytest.mark.parametrize('family', ['onedl', 'openmmlab'])
def test_install_workflow_takes_the_pinned_versions(family):
    pins = set((ROOT / f'requirements/{family}.txt').read_text('utf-8').splitlines())
    matrix = read_yaml('.github/workflows/install.yml')['jobs']['install']['strategy']['matrix']
    (entry,) = [entry for entry in matrix['include'] if entry['family'] == family]
    assert {name for name in entry['first'].split() if '==' in name} <= pins


def test_install_workflow_covers_the_pythons_of_the_metadata():
    matrix = read_yaml('.github/workflows/install.yml')['jobs']['install']['strategy']['matrix']
    metadata = (ROOT / 'pyproject.toml').read_text('utf-8')
    assert matrix['python'] == re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', metadata
    )


def workflows():
    return [read_yaml(f'.github/workflows/{path.name}') for path in WORKFLOWS]


WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))


def test_actions_are_pinned_by_commit_and_keep_no_credentials():
    for workflow in workflows():
        for job in workflow['jobs'].values():
            for step in job['steps']:
                if 'uses' in step:
                    assert re.fullmatch(r'[\w-]+/[\w-]+@[0-9a-f]{40}', step['uses']), step
                if step.get('uses', '').startswith('actions/checkout@'):
                    assert step['with']['persist-credentials'] is False


def test_jobs_that_may_write_run_no_code_of_the_repository():
    for workflow in workflows():
        assert set(workflow['permissions'].values()) <= {'read'}
        for job in workflow['jobs'].values():
            may_write = [
                name for name, may in job.get('permissions', {}).items() if may == 'write'
            ]
            if may_write:
                used = ' '.join(step.get('uses', '') for step in job['steps'])
                assert 'checkout' not in used and job['needs']
            assert not {'contents', 'id-token'} <= set(may_write)
