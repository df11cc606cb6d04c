"""Make the page of `cuts3d app`: cut an uploaded image, and detect in it."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio
import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.algorithm.cut_instances import ImageCuts
from cuts3d_mm.algorithm.params import CutParams, value_at
from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.demo.photos import motorcycle
from cuts3d_mm.images.reading import ImageFailure, NamedImage, read_image
from cuts3d_mm.inference.writing import draw_detections
from cuts3d_mm.labellers.depth.files import DEPTH_SUFFIXES, DepthFromFile
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labellers.generator import PseudoLabelGenerator
from cuts3d_mm.labellers.networks import build_on
from cuts3d_mm.labellers.registry import build_params
from cuts3d_mm.scenes.rendering import render_scenes
from cuts3d_mm.visualization.figures import draw_point_cloud, draw_stages
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import encode_figure

from .server import make_page, messages

_FIGURE_DPI = 110
_MAX_MEGAPIXELS = 50
_DEPTH_HINT = (
    'A depth map is a PNG, NPY, NPZ or PFM, larger is farther. Without a depth map nothing is cut '
    'in 3D.'
)
_SCORES = (
    'The number at an object is its **score**: the chance, from 0 to 1, that its mask is right, '
    'estimated from depth, border and refinement.'
)
_CONFIDENCES = (
    'The number at an object is its **score**: how far the cuts at several depths agree, from 0 '
    'to 1; it is 1 where a recipe makes a single cut.'
)


@dataclass(frozen=True)
class Example:
    """A photo that the page offers, and its depth map."""

    photo: Path
    depth: Path


def build_page(
    cutter: PhotoCutter, detector: DetectorLabeller | None, examples: list[Example]
) -> gradio.Blocks:
    """Build the page, to be launched.

    Args:
        cutter: generator for the tab that cuts pseudo-masks.
        detector: detector for the tab that detects; None leaves the tab out.
        examples: photos that the first tab offers.
    """
    page = make_page('CutS3D')
    with page:
        gradio.Markdown('# CutS3D\nEvery object in a photo, found without a single human label.')
        with gradio.Tab('Cut pseudo-masks'):
            _add_cutting(page, cutter, examples)
        if detector is not None:
            with gradio.Tab('Detect'):
                _add_detection(detector)
    return page


def _add_cutting(page: gradio.Blocks, cutter: PhotoCutter, examples: list[Example]) -> None:
    rows = [[str(one.photo), str(one.depth)] for one in examples]
    shown = rows[0] if rows else [None, None]
    with gradio.Row():
        with gradio.Column():
            photo = _photo_input('photo', shown[0])
            depth = gradio.File(
                shown[1],
                label='Depth map',
                type='filepath',
                visible=cutter.takes_depth,
                elem_id='depth',
                height=110,
            )
            gradio.Markdown(_DEPTH_HINT, visible=cutter.takes_depth)
            recipe = recipe_sliders(cutter.params)
            sliders = [
                gradio.Slider(s.lowest, s.highest, value=s.start, step=s.step, label=s.label)
                for s in recipe
            ]
            button = gradio.Button('Cut', variant='primary', elem_id='cut')
        with gradio.Column():
            overlay = gradio.Image(label='Instances', elem_id='overlay', format='png')
            gradio.Markdown(_SCORES if cutter.params.score else _CONFIDENCES)
            cloud = gradio.Plot(label='Point cloud: drag to turn', elem_id='cloud', visible=False)
    gradio.Markdown('### Stages')
    figure = gradio.Image(show_label=False, elem_id='stages', format='png')

    @messages()
    def cut(photo: Pixels | None, depth: str | None, *values: float) -> Any:
        return _cut(cutter, photo, depth, changed_fields(recipe, values))

    inputs, views = [photo, depth, *sliders], [overlay, cloud, figure]
    button.click(cut, inputs, views)
    for slider in sliders:
        slider.release(cut, inputs, views, trigger_mode='always_last', show_progress='minimal')
    if examples:
        page.load(cut, inputs, views)
        given = [photo, depth] if cutter.takes_depth else [photo]
        offered = gradio.Examples([row[: len(given)] for row in rows], given, cache_examples=False)
        offered.load_input_event.then(cut, inputs, views)


def _add_detection(detector: DetectorLabeller) -> None:
    with gradio.Row():
        with gradio.Column():
            photo = _photo_input('photo_to_detect')
            threshold = gradio.Slider(
                0, 1, value=detector.score_thr, step=0.01, label='Smallest score'
            )
            button = gradio.Button('Detect', variant='primary', elem_id='detect')
        with gradio.Column():
            overlay = gradio.Image(label='Instances', elem_id='detections', format='png')
            count = gradio.Textbox(label='Found')

    @messages()
    def detect(photo: Pixels | None, threshold: float) -> Any:
        pixels = _require(photo)
        chosen = copy.copy(detector)  # visitors choose thresholds of their own
        chosen.score_thr = threshold
        found = chosen.predict(pixels)
        drawn = draw_detections(pixels, found)
        return drawn, f'{len(found)} instances with a score of at least {threshold:.2f}'

    button.click(detect, [photo, threshold], [overlay, count])


def _photo_input(name: str, shown: str | None = None) -> gradio.Image:
    """Make an input for a photo; a file that is no photo is answered with a message."""
    photo = gradio.Image(
        shown,
        label='Photo',
        type='numpy',
        sources=['upload', 'clipboard'],
        elem_id=name,
    )
    photo.preprocess = _decode  # type: ignore[method-assign]
    return photo


@messages()
def _decode(payload: Any) -> Pixels | None:
    """Decode the upload of a visitor; Gradio would take any format that Pillow has."""
    if payload is None or payload.path is None:
        return None
    try:
        return read_image(Path(payload.path), _MAX_MEGAPIXELS * 1e6, upright=True)
    except ImageFailure as failure:
        if isinstance(failure.__cause__, Image.DecompressionBombError):  # Pillow's own limit
            message = f'an image must have at most {_MAX_MEGAPIXELS} megapixels'
            raise ImageFailure(message) from failure
        raise


def _cut(
    cutter: PhotoCutter, photo: Pixels | None, depth: str | None, changes: dict[str, Any]
) -> tuple[Pixels, Any, Pixels]:
    pixels = _require(photo)
    cuts = cutter.cut(pixels, Path(depth) if depth else None, changes)
    has_relief = cuts.depth is not None and bool(np.ptp(cuts.depth))
    if not has_relief:
        cuts = replace(cuts, depth=None, importance=None)
    masks = [instance.mask for instance in cuts.instances]
    scores = [instance.score for instance in cuts.instances]
    overlay = draw_instances(pixels, masks, scores)
    drawn = draw_stages(pixels, cuts, f'No further cut: {cuts.ended}')
    stages = Image.open(io.BytesIO(encode_figure(drawn, 'png', _FIGURE_DPI)))
    cloud = gradio.Plot(draw_point_cloud(pixels, cuts) if has_relief else None, visible=has_relief)
    return overlay, cloud, np.asarray(stages.convert('RGB'))


def _require(photo: Pixels | None) -> Pixels:
    if photo is None:
        raise ValueError('choose a photo first')
    return np.ascontiguousarray(photo[..., :3])


class PhotoCutter:
    """Cuts single photos by the config of a generator, whose networks are built once.

    If the config reads depth from files, it takes the depth map that comes with the photo; without
    a depth map the depth is constant, and nothing is cut in 3D.
    """

    def __init__(self, model: dict[str, Any], device: str = 'cpu') -> None:
        self._recipe = model.get('recipe') or {}
        self._generator: PseudoLabelGenerator = build_on(model, device)
        self.params = self._generator.params
        self.takes_depth = isinstance(self._generator.depth, DepthFromFile)

    def cut(self, photo: Pixels, depth: Path | None, changes: dict[str, Any]) -> ImageCuts:
        """Cut one photo.

        Args:
            photo: the photo.
            depth: PNG, NPY, NPZ or PFM file, for configs that read depth from files.
            changes: fields of the recipe with another value, such as `max_instances`.

        Raises:
            ValueError: the depth file is of another kind, or a change is unknown.
            ImageFailure: the depth map cannot be used.
        """
        generator = copy.copy(self._generator)
        recipe = Config(self._recipe)
        recipe.merge_from_dict(changes)
        generator.params = build_params(recipe.to_dict())
        image = NamedImage('photo', photo, self._read(depth))
        return generator.cut(generator.extract([image])[0])

    def _read(self, depth: Path | None) -> Float | None:
        source = self._generator.depth
        if not isinstance(source, DepthFromFile):
            return None
        if depth is None:
            return np.ones((2, 2), np.float32)
        if depth.suffix.lower() not in DEPTH_SUFFIXES:
            raise ValueError(f'a depth map must be one of {DEPTH_SUFFIXES}, got {depth.name}')
        return source.read(depth)


@dataclass(frozen=True)
class RecipeSlider:
    """A number of the recipe and its range; it starts at the value of the config."""

    field: str  # such as 'local_cut.tau_knn'
    label: str
    lowest: float
    highest: float
    step: float
    start: float


# Field, label, ends and step. At one of its ends a slider changes masks on 12 of 12 photos of COCO
# in the recipes cuts3d and paper, and on 10 to 12 in maskcut.
_SLIDERS = (
    ('max_instances', 'Most objects (N; the paper: 3)', 1, 20, 1),
    ('min_area_ratio', 'Smallest object, as a share of the image', 0, 0.2, 0.005),
    ('ncut.tau_ncut', 'Similarity that links two patches (tau_ncut)', 0.05, 0.6, 0.01),
    ('importance.beta', 'Weight of patches without edges in depth (beta)', 0, 0.9, 0.01),
    ('refine.crf.bilateral_sigma_rgb', 'Colour step that masks follow, of 255', 2, 20, 0.5),
    ('local_cut.evidence.min_contrast', 'Depth step that a cut in 3D needs', 0, 10, 0.1),
    ('local_cut.tau_knn', 'Longest edge of the 3D graph (tau_knn)', 0.02, 0.5, 0.005),
)


def recipe_sliders(params: CutParams) -> list[RecipeSlider]:
    """List the sliders for the numbers that change what a recipe finds."""
    changes_little = {
        'min_area_ratio': params.min_area_from_cut > 0,
        'local_cut.tau_knn': value_at(params, 'local_cut.evidence') is not None,
        'refine.crf.bilateral_sigma_rgb': params.refine.method == 'none',
    }
    sliders = []
    for field, label, lowest, highest, step in _SLIDERS:
        start = value_at(params, field)
        if field == 'max_instances' and start is None:
            start = highest
        if start is None or changes_little.get(field):
            continue
        ends = min(lowest, start), max(highest, start)
        sliders.append(RecipeSlider(field, label, *ends, step, start))
    return sliders


def changed_fields(sliders: Sequence[RecipeSlider], values: Sequence[float]) -> dict[str, Any]:
    """Collect the fields of the recipe that a visitor has changed, with their values."""
    return {
        slider.field: type(slider.start)(value)
        for slider, value in zip(sliders, values, strict=True)
        if abs(value - slider.start) > slider.step / 2  # browsers round to whole steps
    }


def write_examples(folder: Path) -> list[Example]:
    """Write a rendered scene and, where scikit-image is installed, a real photo."""
    scene = render_scenes(1, seed=3)[0]
    examples = [_write(folder / scene.name, scene.image, scene.depth)]
    if find_spec('skimage') is not None:
        photo = motorcycle()
        with np.errstate(divide='ignore'):  # without disparity no depth: filled when it is read
            examples.append(_write(folder / photo.name, photo.image, 1 / photo.depth))
    return examples


def _write(path: Path, photo: Pixels, depth: NDArray[np.floating]) -> Example:
    Image.fromarray(photo).save(path)
    np.save(path.with_suffix('.npy'), depth)
    return Example(path, path.with_suffix('.npy'))
