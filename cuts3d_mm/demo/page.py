"""Write the demo's page from the results of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from cuts3d_mm.arrays import Mask, Pixels
from cuts3d_mm.visualization.figures import Stages, draw_stages
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.report_page import (
    Block,
    Details,
    Picture,
    Row,
    Section,
    Table,
    Text,
    write_report,
)

_TITLE = 'Objects found without a single human label'
_INTRODUCTION = (
    'CutS3D cuts objects out of unlabelled images where self-supervised features and depth agree '
    'that something ends. MaskCut, on the left, is its two-dimensional ancestor on the same '
    'features; objects of one kind that touch in the image are one object to it. Click on '
    '"how CutS3D came to it" under an image for the stages.'
)
_FEATURES = (
    'The features here are hand-made from colour and texture, so that nothing is downloaded: '
    'they see surfaces, not kinds of objects, and walls and floors count as objects.'
)
_NUM_SCENES_SHOWN = 6  # the others are opened by a click


@dataclass(frozen=True)
class Comparison:
    """What both recipes found in one image."""

    title: str
    flat: Sequence[Mask]  # of MaskCut, (H, W)
    stages: Stages  # of CutS3D


@dataclass(frozen=True)
class Training:
    """A training on pseudo-labels, or several."""

    title: str
    text: str
    table: Table
    curves: Figure


def write_page(
    path: Path,
    scores: Table,
    photos: Sequence[Comparison],
    scenes: Sequence[Comparison],
    trainings: Sequence[Training],
) -> None:
    """Write the page: scores, photos, scenes, then trainings."""
    pictures = [_compare(one) for one in scenes]
    shown = [block for blocks in pictures[:_NUM_SCENES_SHOWN] for block in blocks]
    others = [block for blocks in pictures[_NUM_SCENES_SHOWN:] for block in blocks]
    if others:
        rest = len(pictures) - _NUM_SCENES_SHOWN
        shown.append(Details(f'{rest} more scenes', others))
    sections = [
        Section('Photos', [block for one in photos for block in _compare(one)]),
        Section('Rendered scenes', shown),
        *(_training(one) for one in trainings),
    ]
    introduction: list[Block] = [Text(_INTRODUCTION), Text(_FEATURES), scores]
    write_report(path, _TITLE, introduction, sections)


def _compare(one: Comparison) -> list[Block]:
    """Both recipes on the same image, large; the stages of CutS3D on demand."""
    image = one.stages.image
    masks = [instance.mask for instance in one.stages.instances]
    return [
        Text(one.title),
        Row([_outlined(image, one.flat, 'MaskCut (2D)'), _outlined(image, masks, 'CutS3D')]),
        Details('how CutS3D came to it', [Picture.of_figure(draw_stages(one.stages))]),
    ]


def _outlined(image: Pixels, masks: Sequence[Mask], recipe: str) -> Picture:
    plural = '' if len(masks) == 1 else 's'
    return Picture.of_pixels(
        draw_instances(image, masks), f'{recipe}: {len(masks)} object{plural}'
    )


def _training(one: Training) -> Section:
    return Section(one.title, [Text(one.text), one.table, Picture.of_figure(one.curves)])
