r"""Publish a trained detector, and its labels, on the Hugging Face Hub; safe to repeat.

Examples:
    cuts3d publish cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet \
      iter_160000.pth --repo owner/name --dry-run
    cuts3d publish learned/release --repo owner/name
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cuts3d_mm.cli import (
    ask,
    config_name,
    existing_file,
    label_store_path,
    make_parser,
    run_command,
)
from cuts3d_mm.hub.client import CONFIG_FILE


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'config',
        type=_config_or_release,
        help='config file, name of a shipped config, or a release folder of cuts3d learn',
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint of cuts3d train, whose moving average is used if it has one; leave it '
        'out with a release folder',
    )
    parser.add_argument(
        '--repo',
        required=True,
        metavar='OWNER/NAME',
        help='repository, which is made if it does not exist',
    )
    parser.add_argument(
        '--metrics',
        type=existing_file,
        help='JSON of cuts3d score --json, or table.json of cuts3d evaluate-suite',
    )
    parser.add_argument(
        '--labels',
        type=_local_label_store,
        metavar='STORE',
        help='label store, published as the dataset OWNER/NAME-labels',
    )
    parser.add_argument(
        '--license',
        metavar='NAME',
        help='licence of the weights and labels, such as apache-2.0 (default: the model card says '
        'that it is unknown)',
    )
    parser.add_argument(
        '--picture',
        type=existing_file,
        help='JPEG for the model card, such as detections.jpg of a release folder, which shows '
        'images of yours (default: no picture)',
    )
    parser.add_argument(
        '--yes',
        action='store_true',
        help='publish a detector that hardly agrees with its own labels, without asking',
    )
    parser.add_argument('--private', action='store_true', help='make a new repository private')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='write the files, print where they are, upload nothing',
    )
    return parser.parse_args()


def _local_label_store(text: str) -> Path:
    if isinstance(store := label_store_path(text), Path):
        return store
    raise ValueError(f'the label store must be on this machine, copy {text} first')


def _config_or_release(text: str) -> str:
    return text if (Path(text) / CONFIG_FILE).is_file() else config_name(text)


def main() -> None:
    """Run the command."""
    args = parse_args()
    if (args.checkpoint is None) != Path(args.config).is_dir():
        raise ValueError('publish needs CONFIG and CHECKPOINT, or a release folder alone')
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.hub.client import HubRepository

    if HubRepository.parse(args.repo).revision is not None:
        raise ValueError(f'--repo must be OWNER/NAME without a revision, got {args.repo}')
    if args.picture is not None and args.picture.suffix.lower() not in ('.jpg', '.jpeg'):
        raise ValueError(f'--picture must be a JPEG, got {args.picture}')
    require_agreement(args)
    if args.license is None:
        print('no --license is named, so that others may not use what is published')
    if args.dry_run:
        for repo_id, _, files in prepare(args, Path(tempfile.mkdtemp(prefix='cuts3d_release_'))):
            print(f'{repo_id} would get:')
            for name, path in files.items():
                print(f'  {name:24s}{path.stat().st_size:>12,d} bytes  {path}')
        print_zoo_entry(args, f'https://huggingface.co/{args.repo}/resolve/main')
        return
    with tempfile.TemporaryDirectory() as folder:
        for repo_id, repo_type, files in prepare(args, Path(folder)):
            url = upload(repo_id, repo_type, files, args.private)
            if repo_type == 'model':
                print_zoo_entry(args, url)


def require_agreement(args: argparse.Namespace) -> None:
    """Ask before a detector is published that has not learned its own labels.

    Raises:
        ValueError: nobody says that it is to be published all the same.
    """
    from cuts3d_mm.hub.publishing import CHECKPOINT_FILE, Learned
    from cuts3d_mm.learning.verdict import VerdictParams
    from cuts3d_mm.weights import read_state

    path = args.checkpoint or str(Path(args.config) / CHECKPOINT_FILE)
    learned = Learned.of(read_state(path).meta)
    floor = VerdictParams().usable
    if learned is None or learned.agreement is None or learned.agreement >= floor:
        return
    fault = (
        f'a published detector must agree with its own labels to {100 * floor:g} % (mask AP50), '
        f'got {100 * learned.agreement:.2f} %'
    )
    if args.dry_run:
        print(fault)
    elif not (args.yes or ask(f'{fault}. Publish it all the same?')):
        raise ValueError(
            f'{fault}; see its report for the likely reason, or publish it all the same by --yes'
        )


def print_zoo_entry(args: argparse.Namespace, url: str) -> None:
    """Print the entry that lists the detector in the model zoo, if its config is in the zoo."""
    from cuts3d_mm.configs import find_config, shipped_root
    from cuts3d_mm.hub.publishing import CHECKPOINT_FILE, METAFILE, zoo_entry

    if args.checkpoint is None:
        return
    weights_url = f'{url}/{CHECKPOINT_FILE}'
    entry = zoo_entry(shipped_root(), find_config(args.config), weights_url, _scores(args))
    if entry:
        print(f'\nlist its weights in the model zoo by this entry of {METAFILE}:')
        print(entry, end='')


def _scores(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    from cuts3d_mm.hub.publishing import read_scores

    return read_scores(json.loads(args.metrics.read_text())) if args.metrics else {}


def prepare(args: argparse.Namespace, folder: Path) -> list[tuple[str, str, dict[str, Path]]]:
    """Write the files of each repository; return its name, its kind, and name -> local file."""
    from cuts3d_mm.engine.runner import build_detector
    from cuts3d_mm.hub.publishing import (
        NO_LICENCE,
        PICTURE_FILE,
        ReleaseFacts,
        label_files,
        write_release,
    )

    config, checkpoint = _trained(args)
    expected = build_detector(config).state_dict()
    licence = args.license or NO_LICENCE
    has_picture = args.picture is not None
    facts = ReleaseFacts(args.repo, _scores(args), licence, has_picture=has_picture)
    (folder / 'model').mkdir()
    paths = write_release(checkpoint, config, expected, facts, folder / 'model')
    if has_picture:
        paths.append(Path(shutil.copyfile(args.picture, folder / 'model' / PICTURE_FILE)))
    repositories = [(args.repo, 'model', {path.name: path for path in paths})]
    if args.labels is not None:
        (folder / 'labels').mkdir()
        name = f'{args.repo}-labels'
        files = label_files(args.labels, folder / 'labels', name, licence)
        repositories.append((name, 'dataset', files))
    return repositories


def _trained(args: argparse.Namespace) -> tuple[Any, str]:
    """Find config and checkpoint of the detector to publish."""
    if args.checkpoint is not None:
        from cuts3d_mm.configs import load_config

        return load_config(args.config, []), args.checkpoint
    from mmengine.config import Config

    from cuts3d_mm.hub.publishing import CHECKPOINT_FILE
    from cuts3d_mm.hub.trusted_config import read_release_config

    release = Path(args.config)
    return Config(read_release_config(release / CONFIG_FILE)), str(release / CHECKPOINT_FILE)


def upload(repo_id: str, repo_type: str, files: dict[str, Path], is_private: bool) -> str:
    """Upload a repository, say what was done, and return the address of its files."""
    from cuts3d_mm.hub.publishing import upload_files

    done = upload_files(files, repo_id, repo_type, is_private)
    print(f'{done.url} at {done.revision[:12]}')
    print(f'  uploaded: {", ".join(done.uploaded) or "nothing, all files are there already"}')
    if done.uploaded and done.unchanged:
        print(f'  unchanged: {", ".join(done.unchanged)}')
    print('  checked: every file has the hash of the local one')
    return f'{done.url}/resolve/{done.revision}'


if __name__ == '__main__':
    run_command(main)
