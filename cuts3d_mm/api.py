"""Load what finds instances in images, by a name: `cuts3d_mm` offers these functions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuts3d_mm.configs import SCORE_THR, load_generator_config, shipped_configs

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mmengine.config import Config
    from numpy.typing import ArrayLike

    from cuts3d_mm.algorithm.params import CutParams
    from cuts3d_mm.arrays import Pixels
    from cuts3d_mm.labellers.depth.files import LargerIs
    from cuts3d_mm.labellers.detector import DetectorLabeller
    from cuts3d_mm.labellers.generator import PseudoLabelGenerator


def list_configs(folder: str | None = None) -> list[str]:
    """List the names of the shipped configs.

    Args:
        folder: 'pseudo_labels' for generators, 'cuts3d' or 'demo' for trainings; None for all.

    Example:
        >>> 'maskcut_color-texture' in cuts3d_mm.list_configs('pseudo_labels')
        True
    """
    configs = shipped_configs()
    return [path.stem for path in configs if folder is None or path.parent.name == folder]


def load_generator(
    config: str | Path | dict[str, Any],
    device: str = 'auto',
    params: CutParams | None = None,
) -> PseudoLabelGenerator:
    """Load what cuts instances out of images, without any training.

    Args:
        config: name of a shipped config, path of a config, or its `model` as a dict.
        device: device of the networks, such as 'cuda:0'; 'auto' for a GPU where there is one.
        params: recipe to use in place of the config's.

    Returns:
        A generator; `generator.predict(image, depth=None)` takes (H, W, 3) uint8 RGB.

    Raises:
        ValueError: no such config, or it is malformed.

    Example:
        >>> generator = cuts3d_mm.load_generator('cuts3d_color-texture_file-depth')
        >>> instances = generator.predict(image, depth=depth)
    """
    from cuts3d_mm.labellers.networks import build_on

    model = dict(config) if isinstance(config, dict) else load_generator_config(str(config), [])
    if params is not None:
        model = {**model, 'recipe': asdict(params)}
    generator: PseudoLabelGenerator = build_on(model, device)
    return generator


def load_detector(
    model: str | Path | Config | None,
    weights: str | None = None,
    device: str = 'auto',
    score_thr: float = SCORE_THR,
) -> DetectorLabeller:
    """Load a trained detector.

    Args:
        model: `owner/repo[@revision]` on the Hugging Face Hub; a folder that `cuts3d download`
            made; a config, as an object, a path or the name of a shipped one; None for the
            `model.pth` of a release, which holds its config.
        weights: a file, `https://` or `hf://` location; needed with a config.
        device: such as 'cuda:0'; 'auto' for a GPU where there is one.
        score_thr: smallest score of an instance, in [0, 1].

    Returns:
        A detector; `detector.predict(image)` takes (H, W, 3) uint8 RGB.

    Raises:
        ValueError: there is no such config, the weights do not fit it, or it is of a release
            and names what a release may not name.
        FileNotFoundError: no such file.
        HubError: the Hub does not give it.

    Example:
        >>> detector = cuts3d_mm.load_detector('owner/repo')
        >>> instances = detector.predict(image)
    """
    from cuts3d_mm.labellers.detector import DetectorLabeller

    return DetectorLabeller.load(model, weights, device, score_thr)


def explain(
    generator: PseudoLabelGenerator | str | Path | dict[str, Any],
    image: Pixels,
    depth: ArrayLike | None = None,
    larger_is: LargerIs = 'far',
    compare: PseudoLabelGenerator | str | Path | dict[str, Any] | None = None,
    device: str = 'auto',
) -> Figure:
    """Draw every stage of the cuts of an image, and why cuts were rejected.

    The same in figures: `generator.explain(image)` returns all cuts.

    Args:
        generator: what `load_generator` returns, or what it takes.
        image: (H, W, 3) uint8 RGB.
        depth: (h, w) of any size and unit; recipes in 2D are not given it.
        larger_is: 'far' for depth, 'near' for disparity.
        compare: another generator, drawn to the right of the first.
        device: device of the networks that are loaded here.

    Returns:
        A figure of matplotlib, which a notebook shows.

    Raises:
        ValueError, ImageFailure: as for `generator.predict`.

    Example:
        >>> figure = cuts3d_mm.explain('cuts3d_color-texture_file-depth', image, depth)
        >>> figure.savefig('stages.png')
    """
    from cuts3d_mm.visualization.figures import draw_recipes

    recipes = []
    for one in (generator, compare):
        if one is None:
            continue
        built = load_generator(one, device) if isinstance(one, (str, Path, dict)) else one
        given = () if built.depth is None else (depth, larger_is)
        title = Path(one).stem if isinstance(one, (str, Path)) else ''
        recipes.append((title, built.explain(image, *given)))
    return draw_recipes(image, recipes)
