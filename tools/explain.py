"""Draw the stages of the recipe on one image, and say why cuts were rejected.

Examples:
    cuts3d explain maskcut_color-texture images/a.jpg --out stages.png
    cuts3d explain cuts3d_color-texture_file-depth images/a.jpg --depth depth --compare maskcut
    cuts3d explain maskcut_color-texture images/a.jpg --json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuts3d_mm.algorithm.params import PRESETS
from cuts3d_mm.cli import (
    add_generator_arguments,
    generator_name,
    image_file,
    local_place,
    make_parser,
    run_command,
)
from cuts3d_mm.configs import load_generator_config
from cuts3d_mm.files.paths import require_writable

if TYPE_CHECKING:
    from cuts3d_mm.algorithm.cut_instances import ImageCuts


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_generator_arguments(parser)
    parser.add_argument('image', type=image_file, help='image file')
    parser.add_argument('--depth', metavar='DIR', help='folder with the depth map of the image')
    parser.add_argument(
        '--compare',
        metavar='CONFIG',
        help=f'draw another to the right: a generator config, or a recipe ({", ".join(PRESETS)})',
    )
    parser.add_argument('--device')
    parser.add_argument(
        '--out',
        type=local_place,
        default=Path('explain.png'),
        metavar='FILE',
        help='figure to write',
    )
    parser.add_argument(
        '--json',
        action='store_true',
        help='print one JSON object, with figures of the instances and of the rejected cuts',
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    require_writable(args.out.parent, '--out')
    models = [load_generator_config(args.config, args.cfg_options, args.files)]
    titles = [' '.join([Path(args.config).stem, *args.cfg_options])]
    if args.compare in PRESETS:
        models.append({**models[0], 'recipe': {'preset': args.compare}})
        titles.append(f'{Path(args.config).stem} model.recipe.preset={args.compare}')
    elif args.compare:
        models.append(load_generator_config(generator_name(args.compare), [], args.files))
        titles.append(Path(args.compare).stem)
    # Imported when the paths are right: networks and figures take seconds.
    from cuts3d_mm.labellers.networks import build_on, check_device
    from cuts3d_mm.labellers.registry import (
        build_params,
        check_labeller,
        fetch_weights,
        with_depth_folder,
    )

    models[0] = with_depth_folder(models[0], args.depth)
    if args.compare and build_params(models[1].get('recipe')).uses_depth:
        models[1] = with_depth_folder(models[1], args.depth)
    check_device(args.device)
    for model in models:
        check_labeller(model)
        fetch_weights(model)
    _draw(titles, [build_on(model, args.device) for model in models], args)


def _draw(titles: list[str], generators: list[Any], args: argparse.Namespace) -> None:
    from cuts3d_mm.images.reading import ImageFailure, read_image
    from cuts3d_mm.visualization.figures import draw_recipes, letters_of_rejected
    from cuts3d_mm.visualization.pictures import save_figure

    name = args.image.name
    try:
        image = read_image(args.image)
        found = [one.explain(image, name=name) for one in generators]
    except ImageFailure as failure:
        raise ValueError(f'{args.image}: {failure}') from failure
    headings = [f'{name}: {title}' for title in titles]
    save_figure(args.out, draw_recipes(image, list(zip(headings, found, strict=True))), dpi=120)
    if args.json:
        first, *others = map(describe, found)
        compared = {'compare': others[0]} if others else {}
        print(json.dumps({'image': name, **first, **compared}, indent=1))
        return
    for title, cuts in zip(titles, found, strict=True):
        print(f'{title}: {len(cuts.instances)} instances -> {args.out}')
        letters = letters_of_rejected(cuts)
        for index, cut in enumerate(cuts.rejected):
            mark = f' {letters[index]}' if index < len(letters) else ' (not drawn)'
            print(f'rejected{mark}, {cut.mask.sum()} patches: {cut.reason}')
        print(f'ended: {cuts.ended}')


def describe(cuts: ImageCuts) -> dict[str, Any]:
    """Figures of an image: areas in pixels and patches, the rest as in `Instance`."""
    instances = [
        {
            'score': float(one.score),
            'area_px': int(one.mask.sum()),
            'patches': int(one.patches.sum()),
            'confidence': float(one.confidence[one.patches].mean()),
            'eigenvalue': float(one.eigenvalue),
            'eigengap': float(one.eigengap),
        }
        for one in cuts.instances
    ]
    rejected = [{'patches': int(cut.mask.sum()), 'reason': cut.reason} for cut in cuts.rejected]
    sizes = {'image_hw': cuts.image_hw, 'grid_hw': cuts.grid_hw}
    return {**sizes, 'instances': instances, 'rejected': rejected, 'ended': cuts.ended}


if __name__ == '__main__':
    run_command(main)
