"""Prepare a label store for publishing as a dataset repository."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.hub.publishing.model_card import PAPER_URL
from cuts3d_mm.hub.publishing.private_text import refuse_secrets, without_local_paths
from cuts3d_mm.labels.store import (
    Counts,
    read_counts,
    read_shard,
    shard_path,
    shard_paths,
    write_shard,
)


def label_files(store: Path, card_folder: Path, repo_id: str, licence: str) -> dict[str, Path]:
    """Name the files of a dataset repository.

    Args:
        store: label store.
        card_folder: where card and run record are written.
        repo_id: `owner/name` of the dataset.
        licence: of the labels.

    Returns:
        Name in the repository -> local file.

    Raises:
        ValueError: `store` is no label store, or something in it looks like a secret.
    """
    shards = shard_paths(store)
    counts = sum((read_counts(path) for path in shards), Counts())
    files = {'README.md': card_folder / 'README.md'}
    for index, path in enumerate(shards):
        files[f'data/{path.name}'] = _publishable_shard(path, card_folder, index)
    run: dict[str, Any] = {}
    if (store / 'run.json').is_file():
        run = json.loads((store / 'run.json').read_text(encoding='utf-8'))
        refuse_secrets(run, 'run.json')
        files['run.json'] = card_folder / 'run.json'
        with open_atomically(files['run.json']) as file:
            file.write(json.dumps(without_local_paths(run), indent=1).encode() + b'\n')
    with open_atomically(files['README.md']) as file:
        file.write(_card(repo_id, licence, counts, _origin(run)).encode())
    return files


def _origin(run: dict[str, Any]) -> str:
    """Say what found the instances, by the record of the run."""
    model = run.get('identity', {}).get('model', {})
    if 'recipe' in model:
        found = [_source(model[part]) for part in ('features', 'depth') if model.get(part)]
        how = f'in 3D by [CutS3D]({PAPER_URL})' if model.get('depth') else 'in 2D'
        return f'cut {how} with {" and ".join(found)}'
    return 'predicted by a trained detector' if 'detector' in model else 'from a label store'


def _source(part: dict[str, Any]) -> str:
    network = without_local_paths(part.get('checkpoint') or part.get('model'))
    named = f'`{part["type"].rpartition(".")[2]}`'
    return f'{named} of `{network}`' if isinstance(network, str) else named


def _publishable_shard(path: Path, folder: Path, index: int) -> Path:
    """Find or make a shard without local paths, which reasons of failures can hold."""
    if not read_counts(path).failures:
        return path
    records = list(read_shard(path))
    cleaned = [replace(record, failure=without_local_paths(record.failure)) for record in records]
    refuse_secrets([record.failure for record in cleaned], path.name)
    if cleaned == records:
        return path
    write_shard(folder, index, cleaned)
    return shard_path(folder, index)


def _card(repo_id: str, licence: str, counts: Counts, origin: str) -> str:
    return f"""---
license: {licence}
task_categories:
- image-segmentation
tags:
- instance-segmentation
- pseudo-labels
- cuts3d
configs:
- config_name: default
  data_files: data/labels-*.parquet
---

# {repo_id.split('/')[-1]}

Class-agnostic instance masks with confidence, {origin}, published by cuts3d_mm {__version__}.
{counts.images} images, {counts.instances} instances, {counts.failures} failures. One row per
image, masks as COCO run-length codes at image size; the images themselves are not included.

```bash
cuts3d download {repo_id} --repo-type dataset --out STORE
cuts3d export STORE/data labels.json      # COCO JSON
```
"""
