"""Publish a detector or labels: write the files of a release and its card, and upload them."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
import yaml
from mmengine.config import Config
from safetensors.torch import save
from torch import Tensor

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.labels.store import (
    Counts,
    read_counts,
    read_mark,
    read_shard,
    shard_path,
    shard_paths,
    write_shard,
)
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit

from .client import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    HubError,
    HubRepository,
    call_hub,
    has_hash,
    hub_client,
    stated_hashes,
)
from .private_text import refuse_secrets, without_local_paths
from .trusted_config import (
    RELEASE_CONFIG,
    parse_release_config,
    plain_dataset_meta,
    release_config,
)

CHECKPOINT_FILE, CARD_FILE, PICTURE_FILE = 'model.pth', 'README.md', 'detections.jpg'
NO_LICENCE = 'unknown'  # the Hub's word
PAPER_URL = 'https://arxiv.org/abs/2411.16319'
_CITATION = """```bibtex
@inproceedings{sick2025cuts3d,
  title     = {{CutS3D}: Cutting Semantics in {3D} for {2D} Unsupervised Instance Segmentation},
  author    = {Sick, Leon and Engel, Dominik and Hartwig, Sebastian and Hermosilla, Pedro
               and Ropinski, Timo},
  booktitle = {ICCV},
  year      = {2025}
}
```"""
_BODY = """# {name}

{what}, {made} by
[cuts3d_mm](https://github.com/cuts3d-mm/cuts3d_mm) {version}.

{learned}## Use

[Install cuts3d_mm](https://cuts3d-mm.github.io/cuts3d_mm/install/), then:

```python
import cuts3d_mm

detector = cuts3d_mm.load_detector('{place}')
instances = detector.predict(image)  # (H, W, 3) uint8 RGB
```

In a config for MMDetection's own tools; cuts3d_mm must be installed:

```python
custom_imports = dict(imports=['cuts3d_mm.weights.everywhere'])
load_from = '{weights}'
# and the model of config.json
```

`model.pth` holds the same weights for MMDetection's inferencer:

```python
import cuts3d_mm  # first: mmcv gets its operators
from mmdet.apis import DetInferencer

inferencer = DetInferencer(weights='model.pth')
```

## Training

{training}

`config.json` holds the detector and the size of its test images, not its training.

## Scores

{table}

## Limits

What counts as an object is what its training labels outlined. The scores order detections, they
are no probabilities.

## Licence

{licence}

## Citation

cuts3d_mm implements [CutS3D]({paper_url}):

{citation}
"""


@dataclass(frozen=True)
class Learned:
    """What `cuts3d learn` knows of a detector; `model.pth` keeps it for `cuts3d publish`."""

    num_images: int  # trained on
    recipe: str  # name of the config that cut the pseudo-labels
    num_cut: int  # pseudo-labels in these images
    num_selected: int  # pseudo-labels that were trained on
    selection: str  # which, in words
    agreement: float | None  # mask AP50 against held-out pseudo-labels, in [0, 1]

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Learned | None:
        """Read it from the meta of a checkpoint; None where that has nothing of the kind."""
        try:
            return msgspec.convert(meta['learned'], cls)
        except (KeyError, msgspec.ValidationError):
            return None


@dataclass(frozen=True)
class ReleaseFacts:
    """Facts for the model card that are not in the files."""

    repo_id: str  # or the folder of a release that is not published
    scores: dict[str, dict[str, float]]  # data set -> metric -> value in [0, 1]
    licence: str
    notes: tuple[str, ...] = ()  # sentences on the training, which the weights keep, too
    learned: Learned | None = None  # None: as the weights have it
    has_picture: bool = False  # whether PICTURE_FILE is in the release
    is_published: bool = True


def write_release(
    checkpoint: str,
    config: Config,
    expected: Mapping[str, Tensor],
    facts: ReleaseFacts,
    folder: Path,
) -> list[Path]:
    """Write the files of a release; return their paths.

    If a training kept an exponential moving average of the weights, MMEngine stores the average
    as `state_dict`, so that the average is released.

    Args:
        checkpoint: file as `cuts3d train` writes it, or a Hub location.
        config: config of the training.
        expected: state dict of the config's detector.
        facts: facts for the model card.
        folder: folder to write into.

    Raises:
        ValueError: the weights do not fit the config, a release may not name the class of the
            detector, or something looks like a secret.
    """
    state = read_state(checkpoint)
    check_weights_fit(state.weights, expected)
    # Copies, so that no file holds more of a shared storage than the weight itself.
    weights = {name: value.detach().cpu().clone() for name, value in state.weights.items()}
    names = without_local_paths(plain_dataset_meta(state.meta.get('dataset_meta')))
    text = flatten_config(config, names)
    read = parse_release_config(text, 'a config that is published')
    meta = {
        'dataset_meta': names,
        'cfg': Config(read).pretty_text,  # for MMDetection, which runs it
        RELEASE_CONFIG: text,
        'cuts3d_mm': __version__,
        'training': [*describe_training(config.to_dict(), state.meta), *facts.notes],
    }
    learned = facts.learned or Learned.of(state.meta)
    if learned is not None:
        meta['learned'] = without_local_paths(asdict(learned))
    refuse_secrets(meta, CHECKPOINT_FILE)
    refuse_secrets(vars(facts), CARD_FILE)
    buffer = io.BytesIO()
    torch.save({'state_dict': weights, 'meta': meta}, buffer)
    files = {
        CONFIG_FILE: text.encode(),
        WEIGHTS_FILE: save(weights, metadata={'format': 'pt'}),
        CHECKPOINT_FILE: buffer.getvalue(),
        CARD_FILE: _card(facts, meta).encode(),
    }
    for name, data in files.items():
        with open_atomically(folder / name) as file:
            file.write(data)
    return [folder / name for name in files]


def flatten_config(config: Config, names: Mapping[str, Any] | None = None) -> str:
    """Write the part of a config that a release holds: the detector and its test images' size.

    `names` are names and colours of the classes; None stands for those of the config.
    """
    checked = release_config(config.to_dict(), 'a config that is published')
    if names is not None:
        checked['test_dataloader']['dataset']['metainfo'] = names
    return json.dumps(checked, indent=1)


def _card(facts: ReleaseFacts, meta: dict[str, Any]) -> str:
    """Write the card of a detector, metadata first."""
    client = hub_client()
    name, all_scores = facts.repo_id.split('/')[-1], without_local_paths(facts.scores)
    num_classes = len(meta['dataset_meta']['classes'])
    tags = ['instance-segmentation', *(['class-agnostic'] if num_classes == 1 else []), 'cuts3d']
    what = f'An instance segmentation detector of {num_classes} classes'
    if num_classes == 1:
        what = (
            'A class-agnostic instance segmentation detector, which outlines objects without '
            'naming them'
        )
    results = [
        client.EvalResult(
            task_type='image-segmentation',
            task_name='Class-agnostic instance segmentation',
            dataset_type=data_set,
            dataset_name=data_set,
            metric_type=metric,
            metric_name=f'{metric} (class-agnostic)',
            metric_value=round(100 * value, 2),
        )
        for data_set, scores in all_scores.items()
        for metric, value in scores.items()
    ]
    data = client.ModelCardData(
        model_name=name if results else None,
        eval_results=results or None,
        license=facts.licence,
        library_name='mmdetection',
        pipeline_tag='image-segmentation',
        tags=tags,
    )
    body = _BODY.format(
        name=name if facts.is_published else facts.repo_id,
        what=what,
        made='published' if facts.is_published else 'made',
        learned=_learned(Learned.of(meta), facts.has_picture),
        place=facts.repo_id,
        weights=f'hf://{facts.repo_id}/{WEIGHTS_FILE}'
        if facts.is_published
        else f'{facts.repo_id}/{CHECKPOINT_FILE}',
        training='\n'.join(f'- {fact}' for fact in meta['training'])
        or 'Neither the config nor the checkpoint says how it was trained.',
        version=__version__,
        paper_url=PAPER_URL,
        table=_score_table(all_scores),
        licence=facts.licence,
        citation=_CITATION,
    )
    return f'---\n{data.to_yaml()}\n---\n\n{body}'


def _learned(learned: Learned | None, has_picture: bool) -> str:
    """What a detector was taught, and whether it has learned that; for a choice at a glance."""
    text = ''
    if learned is not None:
        agreement = 'not measured: no held-out image has a pseudo-label'
        if learned.agreement is not None:
            agreement = (
                f'{100 * learned.agreement:.2f} % (mask AP50 on held-out images; it says whether '
                'the detector has learned its labels, not whether they show objects)'
            )
        chosen = f'{learned.num_selected:,} of them: {learned.selection}'
        if learned.num_selected == learned.num_cut:
            chosen = 'all of them'
        text = (
            '| | |\n| --- | --- |\n'
            f'| images | {learned.num_images:,}, without a label by people |\n'
            f'| pseudo-labels | {learned.num_cut:,}, cut by `{learned.recipe}` |\n'
            f'| trained on | {chosen} |\n'
            f'| agreement with its labels | {agreement} |\n\n'
        )
    if has_picture:
        text += f'![What it finds in images that were held out]({PICTURE_FILE})\n\n'
    return text


def _score_table(all_scores: dict[str, dict[str, float]]) -> str:
    if not all_scores:
        return 'No scores were given.'
    metrics = [
        metric
        for metric in ('box AP50', 'box AP', 'box AR100', 'mask AP50', 'mask AP', 'mask AR100')
        if any(metric in scores for scores in all_scores.values())
    ]
    lines = [f'| data set | {" | ".join(metrics)} |', '| --- |' + ' ---: |' * len(metrics)]
    for name, scores in all_scores.items():
        cells = (f'{100 * scores[m]:.2f}' if m in scores else '' for m in metrics)
        lines.append(f'| {name} | {" | ".join(cells)} |')
    note = 'Class-agnostic: every annotated object counts as one class.'
    return '\n'.join([*lines, '', f'{note} In percent, by pycocotools.'])


def read_scores(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Bring the JSON of `cuts3d score` or `cuts3d evaluate-suite` to one form.

    Returns:
        Data set -> metric, such as `mask AP50` -> value in [0, 1].

    Raises:
        ValueError: the JSON comes from another command.
    """
    sets = {'evaluation': content} if set(content) & {'bbox', 'segm'} else content
    found: dict[str, dict[str, float]] = {}
    for data_set, scores in sets.items():
        if not isinstance(scores, dict):
            raise ValueError(
                '--metrics must be the JSON of cuts3d score --json or the table.json of '
                f'cuts3d evaluate-suite, got {type(scores).__name__} for {data_set}'
            )
        named = {}
        for key, value in scores.items():
            if isinstance(value, dict):  # cuts3d score: {'bbox': {'AP50': ...}}
                named.update({_metric(key, name): float(one) for name, one in value.items()})
            elif '_' in key and '/' in key:  # evaluate-suite: {'coco/bbox_mAP_50': ...}
                kind, _, name = key.split('/')[1].partition('_')
                named[_metric(kind, name)] = float(value)
        found[data_set] = {name: value for name, value in named.items() if value >= 0}
    return found


def _metric(kind: str, name: str) -> str:
    """`bbox`, `mAP_50` -> `box AP50`."""
    what = {'bbox': 'box', 'segm': 'mask'}[kind]
    return f'{what} {name.replace("mAP_", "AP").replace("mAP", "AP").replace("@", "")}'


def describe_training(config: Mapping[str, Any], meta: Mapping[str, Any]) -> list[str]:
    """Describe a training in sentences, by facts in its config and `meta` of its checkpoint.

    A missing fact is not described; the `meta` of a release holds the sentences.
    """
    if isinstance(recorded := meta.get('training'), list):
        return [str(fact) for fact in recorded]
    sets = list(_data_sets(config.get('train_dataloader')))
    names = sorted({_short(one.get('type')) for one in sets})
    facts = []
    if names == ['PseudoLabelDataset']:
        facts = [
            'Trained on pseudo-labels (`PseudoLabelDataset`): masks that a program has found.',
            *(
                f'Of these, `select={select!r}` chose what was trained on: a smallest score, or '
                'the share with the best scores.'
                for one in sets
                if (select := (one.get('filter_cfg') or {}).get('select', 'none')) != 'none'
            ),
        ]
    elif names:
        named = ' and '.join(f'`{name}`' for name in names)
        facts = [f'Trained on annotations that {named} read.']
    iterations = meta.get('iter')
    if isinstance(iterations, int) and iterations > 0:
        facts.append(f'{iterations:,} iterations.')
        begins = [
            f'{one["begin"]:,}'
            for part in (config.get('train_cfg') or {}, *(config.get('custom_hooks') or ()))
            if _short(part.get('type')) in ('SelfTrainingLoop', 'SelfTrainingHook')
            for one in part['rounds']
            if one['begin'] < iterations
        ]
        if begins:
            facts.append(
                f'After iteration {", ".join(begins)} it labelled its images itself; predictions '
                "with at least the round's score joined the labels."
            )
    start: Any = config.get('model')
    for key in ('backbone', 'init_cfg', 'checkpoint'):
        start = start.get(key) if isinstance(start, Mapping) else None
    if config.get('load_from'):
        facts.append('It started from the weights of another detector.')
    elif isinstance(start, str):
        facts.append(f'Its backbone started from `{without_local_paths(start)}`.')
    return facts


def _data_sets(value: Any) -> Iterator[Mapping[str, Any]]:
    """Give the configs of data sets with images, out of data sets that wrap or join others."""
    if not isinstance(value, Mapping):
        return
    parts = [value['dataset']] if 'dataset' in value else value.get('datasets')
    if parts is None:
        yield value
        return
    for part in parts:
        yield from _data_sets(part)


def _short(type_: Any) -> str:
    return str(getattr(type_, '__name__', type_)).rpartition('.')[2]


METAFILE = 'configs/cuts3d/metafile.yml'


def zoo_entry(
    root: Path, config: Path, weights_url: str, scores: dict[str, dict[str, float]]
) -> str:
    """Add weights and scores to the entry of a config in the metafile below `root`.

    Returns:
        YAML, indented as an item of `Models`, with scores in percent; empty if the metafile does
        not list the config.
    """
    results = [
        {
            'Task': 'Instance Segmentation',
            'Dataset': name,
            'Metrics': {metric: round(100 * value, 2) for metric, value in found.items()},
        }
        for name, found in scores.items()
    ]
    added = {'Results': results, 'Weights': weights_url} if results else {'Weights': weights_url}
    models = yaml.safe_load((root / METAFILE).read_text('utf-8'))['Models']
    path = config.resolve()
    entries = [model | added for model in models if (root / model['Config']).resolve() == path]
    if not entries:
        return ''
    return textwrap.indent(yaml.safe_dump(entries, sort_keys=False, width=1000), '  ')


def label_files(store: Path, card_folder: Path, repo_id: str, licence: str) -> dict[str, Path]:
    """Name the files of a dataset repository: its name of each -> local file.

    The card and the run record are written into `card_folder`.

    Raises:
        ValueError: `store` is no label store, or something in it looks like a secret.
    """
    shards = shard_paths(store)
    counts = sum((read_counts(path) for path in shards), Counts())
    files = {'README.md': card_folder / 'README.md'}
    for path in shards:
        files[f'data/{path.name}'] = _publishable_shard(path, card_folder)
    run: dict[str, Any] = {}
    if (store / 'run.json').is_file():
        run = json.loads((store / 'run.json').read_text(encoding='utf-8'))
        run.pop('checksum', None)  # it counts local paths, which are left out
        refuse_secrets(run, 'run.json')
        files['run.json'] = card_folder / 'run.json'
        with open_atomically(files['run.json']) as file:
            file.write(json.dumps(without_local_paths(run), indent=1).encode() + b'\n')
    with open_atomically(files['README.md']) as file:
        file.write(_label_card(repo_id, licence, counts, _origin(run)).encode())
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


def _publishable_shard(path: Path, folder: Path) -> Path:
    """Find or write a shard without local paths, which the reasons of failures may hold."""
    if not read_counts(path).failures:
        return path
    records = list(read_shard(path))
    cleaned = [replace(record, failure=without_local_paths(record.failure)) for record in records]
    refuse_secrets([record.failure for record in cleaned], path.name)
    if cleaned == records:
        return path
    index = int(path.stem.rpartition('-')[2])
    write_shard(folder, index, cleaned, mark=read_mark(path))
    return shard_path(folder, index)


def _label_card(repo_id: str, licence: str, counts: Counts, origin: str) -> str:
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


@dataclass(frozen=True)
class Published:
    """A published repository, and the names of its files."""

    url: str
    revision: str  # commit id
    uploaded: tuple[str, ...]
    unchanged: tuple[str, ...]  # the repository had these files already


def upload_files(
    files: dict[str, Path], repo_id: str, repo_type: str = 'model', is_private: bool = False
) -> Published:
    """Upload files, by their names in the repository, in one commit; check that they arrived.

    Files that the repository has already are not sent, so that a second call changes nothing. A
    repository that does not exist is created. The token is the one that `huggingface_hub` keeps.

    Raises:
        HubError: the Hub refused, or its files differ afterwards.
    """
    client = hub_client()
    options = {'private': is_private, 'repo_type': repo_type, 'exist_ok': True}
    made = call_hub(repo_id, client.HfApi().create_repo, repo_id, **options)
    same = _find_same(files, HubRepository(repo_id, None, repo_type))
    operations = [client.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    done = call_hub(
        repo_id,
        client.HfApi().create_commit,  # which leaves out what the repository has
        repo_id,
        operations,
        commit_message=f'Publish {", ".join(files)}'[:200],
        repo_type=repo_type,
    )
    revision = str(done.oid)
    wrong = set(files) - _find_same(files, HubRepository(repo_id, revision, repo_type))
    if wrong:
        raise HubError(
            f'{repo_id} does not hold what was sent: {", ".join(sorted(wrong))}; publish again'
        )
    changed = tuple(name for name in files if name not in same)
    return Published(str(made), revision, changed, tuple(sorted(same)))


def _find_same(files: dict[str, Path], repository: HubRepository) -> set[str]:
    """Names of the files that a repository holds with the same content."""
    stated = stated_hashes(repository)
    return {
        name for name, path in files.items() if name in stated and has_hash(path, stated[name])
    }
