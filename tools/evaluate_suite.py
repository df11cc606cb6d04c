r"""Score a detector on many prepared data sets into one table; run again to resume.

Examples:
    cuts3d evaluate-suite cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet \
      iter_160000.pth data/evaluation results --datasets coco voc
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from cuts3d_mm.cli import RESUMES, add_config_arguments, existing_folder, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_arguments(parser, 'model.test_cfg.rcnn.max_per_img=200')
    parser.add_argument('checkpoint')
    parser.add_argument(
        'data', type=existing_folder, help='folder that cuts3d prepare has written'
    )
    parser.add_argument('out', help='folder of the results')
    parser.add_argument(
        '--datasets',
        nargs='+',
        metavar='NAME',
        help='data sets to score on (default: all that DATA holds)',
    )
    parser.add_argument('--launcher')
    parser.add_argument('--local_rank', '--local-rank')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    # Imported after parsing, so that --help does not wait for torch.
    from mmengine.dist import is_main_process

    from cuts3d_mm.configs import load_config
    from cuts3d_mm.evaluation.suite import evaluate_set

    names = _names_in(args.data, args.datasets)
    config = load_config(args.config, args.cfg_options, args.launcher)
    args.out.mkdir(parents=True, exist_ok=True)
    scores = {}
    for name in names:
        annotations = args.data / f'{name}.json'
        scores[name] = evaluate_set(config, args.checkpoint, name, annotations, args.out)
    if is_main_process():
        _write_tables(args.out, Path(args.checkpoint).stem, scores)


def _names_in(data: Path, wanted: list[str] | None) -> list[str]:
    from cuts3d_mm.evaluation.datasets import EVALUATION_SETS

    present = [name for name in EVALUATION_SETS if (data / f'{name}.json').is_file()]
    names = wanted or present
    absent = sorted(set(names) - set(present))
    if absent or not names:
        raise ValueError(
            f'DATA must hold NAME.json of {absent or "any set"}, made by cuts3d prepare; '
            f'found {present} in {data}'
        )
    return names


def _write_tables(out: Path, method: str, scores: dict[str, dict[str, float]]) -> None:
    from cuts3d_mm.evaluation.suite import suite_table
    from cuts3d_mm.files.atomic import write_whole
    from cuts3d_mm.visualization.charts import draw_table, format_table
    from cuts3d_mm.visualization.pictures import save_figure

    write_whole(out / 'table.json', json.dumps(scores, indent=1) + '\n')
    texts = []
    for kind, what in (('bbox', 'detection: box'), ('segm', 'segmentation: mask')):
        header, rows = suite_table(method, scores, kind)
        if not rows:
            continue
        title = f'Class-agnostic zero-shot {what} AP50 / AP, percent'
        texts.append(f'{title}\n\n{format_table(header, rows)}\n')
        if kind == 'bbox':
            save_figure(out / 'table.png', draw_table(header, rows, title), dpi=120)
    write_whole(out / 'table.md', '\n'.join(texts))
    print('\n'.join(texts), end='')


if __name__ == '__main__':
    run_command(main, RESUMES)
