"""Write the model card of a released detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.hub.connection import hub_client

NO_LICENCE = 'unknown'  # as the Hub calls it
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

{what}, published by
[cuts3d_mm](https://github.com/cuts3d-mm/cuts3d_mm) {version}.

## Use

[Install cuts3d_mm](https://cuts3d-mm.github.io/cuts3d_mm/install/), then:

```python
import cuts3d_mm

detector = cuts3d_mm.load_detector('{repo_id}')
instances = detector.predict(image)  # (H, W, 3) uint8 RGB
```

In MMDetection alone, with cuts3d_mm installed:

```python
custom_imports = dict(imports=['cuts3d_mm.weights.everywhere'])
load_from = 'hf://{repo_id}/model.safetensors'
# and the model of config.py
```

`model.pth` holds the same weights for `mmdet.apis.DetInferencer(weights='model.pth')`.

## Training

{training}

`config.py` holds the detector and the size of its test images, not its training.

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
_NO_TRAINING = 'Neither the config nor the checkpoint says how it was trained.'
_SCORES_NOTE = (
    'Class-agnostic: every annotated object counts as one class. In percent, by pycocotools.'
)


def read_scores(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Bring the JSON of `cuts3d score` or `cuts3d evaluate-suite` to one form.

    Returns:
        Data set -> metric, such as `mask AP50` -> value in [0, 1].

    Raises:
        ValueError: it is neither.
    """
    sets = {'evaluation': content} if set(content) & {'bbox', 'segm'} else content
    found = {}
    for name, scores in sets.items():
        if not isinstance(scores, dict):
            raise ValueError(
                '--metrics must be the JSON of cuts3d score --json or the table.json of '
                f'cuts3d evaluate-suite, got {type(scores).__name__} for {name}'
            )
        found[name] = _named(scores)
    return found


def _named(scores: dict[str, Any]) -> dict[str, float]:
    named = {}
    for key, value in scores.items():
        if isinstance(value, dict):  # cuts3d score: {'bbox': {'AP50': ...}}
            named.update({_metric(key, name): float(one) for name, one in value.items()})
        elif '_' in key and '/' in key:  # evaluate-suite: {'coco/bbox_mAP_50': ...}
            kind, _, name = key.split('/')[1].partition('_')
            named[_metric(kind, name)] = float(value)
    return {name: value for name, value in named.items() if value >= 0}


def _metric(kind: str, name: str) -> str:
    """`bbox`, `mAP_50` -> `box AP50`."""
    what = {'bbox': 'box', 'segm': 'mask'}[kind]
    return f'{what} {name.replace("mAP_", "AP").replace("mAP", "AP").replace("@", "")}'


@dataclass(frozen=True)
class ModelCardText:
    """What the card of a detector says."""

    repo_id: str
    scores: dict[str, dict[str, float]]
    licence: str
    training: list[str]  # sentences
    num_classes: int

    def render(self) -> str:
        """Write the card, metadata first."""
        client = hub_client()
        results = [
            client.EvalResult(
                task_type='image-segmentation',
                task_name='Class-agnostic instance segmentation',
                dataset_type=name,
                dataset_name=name,
                metric_type=metric,
                metric_name=f'{metric} (class-agnostic)',
                metric_value=round(100 * value, 2),
            )
            for name, scores in self.scores.items()
            for metric, value in scores.items()
        ]
        data = client.ModelCardData(
            model_name=self.repo_id.split('/')[-1] if results else None,
            eval_results=results or None,
            license=self.licence,
            library_name='mmdetection',
            pipeline_tag='image-segmentation',
            tags=['instance-segmentation', *self._tags(), 'cuts3d'],
        )
        return f'---\n{data.to_yaml()}\n---\n\n{self._body()}'

    def _tags(self) -> list[str]:
        return ['class-agnostic'] if self.num_classes == 1 else []

    def _what(self) -> str:
        if self.num_classes == 1:
            return (
                'A class-agnostic instance segmentation detector, which outlines objects and '
                'names none'
            )
        return f'An instance segmentation detector of {self.num_classes} classes'

    def _body(self) -> str:
        return _BODY.format(
            name=self.repo_id.split('/')[-1],
            what=self._what(),
            training='\n'.join(f'- {fact}' for fact in self.training) or _NO_TRAINING,
            repo_id=self.repo_id,
            version=__version__,
            paper_url=PAPER_URL,
            table=self._table(),
            licence=self.licence,
            citation=_CITATION,
        )

    def _table(self) -> str:
        if not self.scores:
            return 'None were given.'
        metrics = [
            metric
            for metric in ('box AP50', 'box AP', 'box AR100', 'mask AP50', 'mask AP', 'mask AR100')
            if any(metric in scores for scores in self.scores.values())
        ]
        lines = [f'| data set | {" | ".join(metrics)} |', '| --- |' + ' ---: |' * len(metrics)]
        for name, scores in self.scores.items():
            cells = (f'{100 * scores[m]:.2f}' if m in scores else '' for m in metrics)
            lines.append(f'| {name} | {" | ".join(cells)} |')
        return '\n'.join([*lines, '', _SCORES_NOTE])
