"""Parse the arguments of commands, run them, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import re
import select
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cuts3d_mm import __version__
from cuts3d_mm.configs import Kind, find_config, shipped_configs, shipped_root
from cuts3d_mm.files.paths import require_writable
from cuts3d_mm.files.remote import Place, find_place
from cuts3d_mm.mmengine_imports import silence
from cuts3d_mm.processes import advise, guard, was_interrupted

if TYPE_CHECKING:
    from cuts3d_mm.labels.store import Counts
    from cuts3d_mm.pipeline.work import LabellerSource

RESUMES = 'run the same command again to resume'
EXIT_FAILURES = 3  # done, with more failures than allowed
IMAGES_HELP = (
    'folder (with its subfolders), image, text file of paths, or COCO JSON; may be in '
    's3://BUCKET/PREFIX'
)
LABELS_HELP = 'label store or COCO JSON; may be in s3://BUCKET/PREFIX'
MODEL_HELP = 'owner/repo[@revision] on the Hugging Face Hub, a downloaded folder, or a config'
EXIT_USAGE = 2  # a user error
EXIT_BUG = 1  # a defect of this package
EXIT_UNREAD = 141  # who read the output has ended; as a program that SIGPIPE ends
_DEBUG_KEY = 'CUTS3D_DEBUG'
_COMPLETION_KEYS = '_ARGCOMPLETE', 'COMP_LINE'  # environment: a shell asks argcomplete
_USER_ERRORS = (ValueError, OSError, ImportError, MemoryError)
# Classes of torch, in whatever module of whatever version, and what plain exceptions say where
# not the code is wrong but the machine or another process of the run.
_USER_CLASSES = ('OutOfMemoryError', 'DistBackendError', 'DistNetworkError', 'DistStoreError')
_USER_WORDS = (
    'gloo/transport',
    'CUDA error',
    'CUDA enabled',
    'CUDA GPUs',
    'NVIDIA driver',
    'out of memory',
    'implementation for device',  # mmcv was compiled for another torch: cuts3d doctor
    'DataLoader worker (pid',
)
_BUILDS = 'mmengine', 'registry', 'build_functions.py'
_REMOTE_MARK = 'Original Traceback'  # in what torch raises for a process that loads data
Config = dict[str, Any]


def list_tools() -> dict[str, Path]:
    """Commands by name."""
    tools = (shipped_root() / 'tools').glob('*.py')
    return {path.stem.replace('_', '-'): path for path in sorted(tools)}


# What commands are for, in the order in which people meet them.
GROUPS = {
    'Start': ('demo', 'app', 'configs', 'doctor'),
    'Cut and look': (
        'depth',
        'generate',
        'explain',
        'view',
        'browse-labels',
        'group',
        'name',
        'describe',
        'score',
        'export',
    ),
    'Train': ('learn', 'browse', 'train', 'test', 'predict', 'merge-labels'),
    'Use and share': ('detect', 'download', 'publish'),
    'Paper': ('convert', 'prepare', 'evaluate-suite'),
}


def is_completing() -> bool:
    """Tell whether a shell asks what a line may go on with, by argcomplete."""
    return all(key in os.environ for key in _COMPLETION_KEYS)


def complete_command() -> str | None:
    """Complete the name of a command for a shell; return it where it is whole."""
    line = os.environ['COMP_LINE'][: int(os.environ['COMP_POINT'])]
    words, tools = line.split(), list_tools()
    is_whole = len(words) > 2 or (len(words) == 2 and line.endswith(' '))
    if is_whole:
        os.environ[_COMPLETION_KEYS[0]] = '2'  # what to complete begins after the second word
    if is_whole and words[1] in tools:
        return words[1]
    parser = CommandParser(prog='cuts3d')
    parser.add_argument('command', choices=[*tools, *(() if is_whole else ('help',))])
    parser.parse_args()
    return None


def overview() -> str:
    """The commands by what they are for, with the first sentence of each."""
    tools = list_tools()
    lines = ['usage: cuts3d COMMAND ...   (cuts3d help COMMAND)']
    grouped = {name for names in GROUPS.values() for name in names}
    others = tuple(name for name in tools if name not in grouped)
    for group, names in {**GROUPS, **({'Others': others} if others else {})}.items():
        lines += ['', f'{group}:']
        for name in names:
            sentence = ast.get_docstring(ast.parse(tools[name].read_text('utf-8'))) or ''
            lines.append(f'  {name:16s}{sentence.splitlines()[0]}')
    return '\n'.join(lines)


def run_command(main: Callable[[], int | None], if_interrupted: str = '') -> NoReturn:
    """Run a command; an error is one line, Ctrl-C and SIGTERM end it within seconds.

    Args:
        main: returns the exit code; None is 0.
        if_interrupted: what an interrupted command says, such as how to resume.
    """
    with guard(program()):
        silence()
        warnings.showwarning = partial(_show_warning, warnings.showwarning)
        if isinstance(sys.stdout, TextIOWrapper):  # a name that is not UTF-8 is shown by escapes
            sys.stdout.reconfigure(errors='backslashreplace')
        advise(if_interrupted)
        try:
            code = main() or 0
        except Exception as error:
            if was_interrupted():
                raise
            if isinstance(error, BrokenPipeError) and _is_unread():
                sys.exit(EXIT_UNREAD)
            code = report(error, program())
        sys.exit(EXIT_UNREAD if _is_unread() else code)


def _is_unread() -> bool:
    """Write what stdout still holds, and tell whether its reader has ended, such as `head`."""
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    with suppress(AttributeError, OSError, ValueError):  # a stream without a file, or Windows
        number, poll = sys.stdout.fileno(), select.poll()
        poll.register(number, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)  # nothing is left to fail at the end of Python
            os.close(nowhere)
            return True
    return False


def _show_warning(
    show_as_usual: Callable[..., None], message: Any, category: Any, filename: str, *rest: Any
) -> None:
    """Write a warning of this package in one line, without the line of its code."""
    if category.__module__.startswith('cuts3d_mm.'):
        sys.stderr.write(f'{program()}: {message}\n')
    else:
        show_as_usual(message, category, filename, *rest)


def report_refused(reasons: Sequence[str]) -> int:
    """Print why images were left out, a line each; return the exit code."""
    for reason in reasons:
        print(f'{program()}: left out: {reason}', file=sys.stderr)
    return EXIT_FAILURES if reasons else 0


class CommandParser(argparse.ArgumentParser):
    """Parser whose `--help` keeps the lines of the examples and adds the defaults."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{'formatter_class': _HelpFormatter, **options})

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Add an argument; `_SHARED` says what is not said here, `_VALUES` names its value."""
        options = {**_SHARED.get(names[0], {}), **options}
        kind = options.get('type')
        if names[0][0] != '-':
            options.setdefault('metavar', names[0].upper())
        elif kind in _VALUES:
            options.setdefault('metavar', _VALUES[kind])
        action: Any = super().add_argument(*names, **options)
        if kind in (config_name, generator_name):
            name: Kind = 'generator' if kind is generator_name else 'training'
            action.completer = lambda **_: [path.stem for path in shipped_configs(name)]
        return action

    def parse_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        """Parse arguments, or complete them for a shell that asks by argcomplete."""
        if is_completing():
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(*arguments)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Read the value of an argument; what a function of ours says is not replaced."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            cause = error.__context__
            if action.type in (int, float) or not isinstance(cause, ValueError):
                raise
            name = '/'.join(action.option_strings) or action.metavar
            told = f'{name} {cause}' if str(cause).startswith('must ') else str(cause)
            raise ValueError(told) from cause


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ''
        if action.default in (None, False, argparse.SUPPRESS) or 'default' in text:
            return text
        return text if isinstance(action.default, list) else f'{text} (default %(default)s)'


def program() -> str:
    """Name of the running command, however it was started."""
    name = Path(sys.argv[0]).stem
    return 'cuts3d' if name in ('cuts3d', '__main__') else f'cuts3d {name.replace("_", "-")}'


def ask(question: str) -> bool:
    """Ask on a terminal; where there is none, the answer is no."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    return input(f'{question} [y/N] ').strip().lower() in ('y', 'yes')


def make_parser(doc: str | None) -> CommandParser:
    """Make the parser of a command by its docstring: a sentence, then its examples."""
    sentence, _, examples = (doc or '').partition('\n\n')
    return CommandParser(prog=program(), description=sentence, epilog=examples)


def config_name(name: str, kind: Kind = 'training') -> str:
    """Check that there is such a config."""
    try:
        found = find_config(name, kind)
    except ValueError as error:
        stems = {path.stem for path in shipped_configs(kind)}
        config = next((word for word in sys.argv if word in stems), None)
        if config is not None and Path(name).is_dir():
            raise ValueError(
                f'CONFIG stands before IMAGES, got them swapped: {program()} {config} {name} ...'
            ) from error
        raise
    if Path(name).is_file() and not found.samefile(name):
        print(
            f'{program()}: CONFIG is the shipped {name}; ./{name} would name the file in this '
            'folder',
            file=sys.stderr,
        )
    return name


def generator_name(name: str) -> str:
    """Check that there is such a config of a generator."""
    return config_name(name, 'generator')


def place_to_write(text: str) -> Place:
    """Check that OUT can be written, as far as this machine can tell."""
    out = find_place(text)
    require_writable(out, 'OUT')
    return out


def local_place(text: str) -> Path:
    """Read a path on this machine."""
    if isinstance(found := find_place(text), Path):
        return found
    raise ValueError(f'must be a path on this machine, got {text}; write there, then copy it')


def folder_to_write(text: str) -> Path:
    """Check that OUT is a folder on this machine that can be written."""
    out = local_place(text)
    require_writable(out, 'OUT')
    return out


_Found = TypeVar('_Found', str, Path, Place)


def _existing(
    read: Callable[[str], _Found], is_there: Callable[[_Found], bool], message: str
) -> Callable[[str], _Found]:
    """Make a reader that raises `message`, which names the text, where it names nothing."""

    def check(text: str) -> _Found:
        found = read(text)
        if not is_there(found):
            raise ValueError(message.format(text))
        return found

    return check


weights_location = _existing(
    str,
    lambda text: '://' in text or Path(text).is_file(),
    'checkpoint must be a file, found none at {}',
)
image_source = _existing(
    str,
    lambda text: '://' in text or text.startswith('webcam:') or Path(text).exists(),
    'INPUT must be an image, a folder, a list, a video, an address or webcam:N, found nothing at '
    '{}',
)
existing_file = _existing(Path, Path.is_file, 'must be a file, found none: {}')
existing_folder = _existing(Path, Path.is_dir, 'must be a folder, found none: {}')
image_file = _existing(Path, Path.is_file, 'IMAGE must be an image file, found none at {}')
image_folder = _existing(
    find_place, lambda found: found.is_dir(), 'IMAGES must be a folder, found none: {}'
)
images_path = _existing(
    find_place,
    lambda found: found.exists(),
    'IMAGES must be a folder, an image, a text file or a COCO JSON, found nothing at {}',
)
labels_path = _existing(
    find_place,
    lambda found: found.exists(),
    'LABELS must be a label store or a COCO JSON, found nothing at {}',
)
label_store_path = _existing(
    find_place,
    lambda found: any(found.glob('labels-*.parquet')),
    '{} must be a label store, found no labels-*.parquet in it',
)


def share(text: str) -> float:
    """Read a share or a score."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f'must lie in [0, 1], got {text}')
    return value


@cache
def at_least(lowest: int, at_most: int = sys.maxsize) -> Callable[[str], int]:
    """Make a function that reads a number of a range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= at_most:
            is_open = at_most == sys.maxsize and number < lowest
            to = 'on' if is_open else f'to {at_most}'
            raise argparse.ArgumentTypeError(f'must be a number from {lowest} {to}, got {text}')
        return number

    return read


# What the help calls the value of an option that is read by a function.
_VALUES: dict[Callable[[str], Any], str] = {
    int: 'N',
    at_least(0): 'N',
    at_least(1): 'N',
    existing_file: 'FILE',
    existing_folder: 'DIR',
    image_folder: 'DIR',
    local_place: 'DIR',
    config_name: 'CONFIG',
    generator_name: 'CONFIG',
    weights_location: 'CHECKPOINT',
    labels_path: 'LABELS',
}
# Arguments that several commands have; what a command says of its own argument comes first.
_SHARED: dict[str, dict[str, Any]] = {
    'checkpoint': {
        'type': weights_location,
        'help': 'weights: a file, https:// or hf:// location',
    },
    'labels': {'type': labels_path, 'help': LABELS_HELP},
    'images': {'type': images_path, 'help': IMAGES_HELP},
    'out': {'type': folder_to_write},
    '--import': {
        'dest': 'files',
        'type': local_place,
        'action': 'append',
        'default': [],
        'metavar': 'FILE',
        'help': 'Python file with a class that CONFIG names, such as type="my_file.Depth"; those '
        'in the folder of CONFIG are found without it; may be repeated',
    },
    '--cfg-options': {'nargs': '+', 'default': [], 'metavar': 'KEY=VALUE'},
    '--device': {
        'default': 'auto',
        'help': 'device of the networks, such as cuda:0 or cpu; auto: a GPU if there is one '
        '(default auto)',
    },
    '--exclude': {
        'type': existing_file,
        'help': 'text file of images to leave out, a name relative to their folder a line',
    },
    '--crowd': {
        'choices': ['ignore', 'objects'],
        'default': 'ignore',
        'help': 'what regions of a COCO JSON that are marked iscrowd are',
    },
    '--max-failures': {
        'type': share,
        'default': 0.01,
        'metavar': 'SHARE',
        'help': 'share of images that may fail, in [0, 1]; with more the exit code is 3',
    },
    '--model': {'help': f'the detector: {MODEL_HELP}'},
    '--weights': {
        'type': weights_location,
        'help': 'with a config in --model: a file, https:// or hf:// location',
    },
    '--work-dir': {
        'metavar': 'DIR',
        'help': 'folder of logs and checkpoints (default: work_dirs/ and the name of CONFIG)',
    },
    '--launcher': {
        'choices': ['none', 'pytorch', 'slurm', 'mpi'],
        'default': 'none',
        'help': 'what has started the processes',
    },
    # torch.distributed.launch passes either spelling.
    '--local_rank': {
        'type': int,
        'default': 0,
        'help': 'number of this process on its machine; the launcher sets it',
    },
    '--port': {
        'type': at_least(1, at_most=2**16 - 1),
        'default': 7860,
        'metavar': 'N',
        'help': 'TCP port',
    },
    '--seed': {'type': at_least(0), 'default': 0},
}


def add_config_arguments(
    parser: CommandParser, example: str, check: Callable[[str], str] = config_name
) -> None:
    """Add CONFIG and --cfg-options to a command; its help shows the `example`."""
    parser.add_argument('config', type=check, help='config file, or name of a shipped config')
    parser.add_argument('--cfg-options', help=f'change values of the config, such as {example}')


def add_generator_arguments(parser: CommandParser) -> None:
    """Add the CONFIG of a generator, --cfg-options and --import to a command."""
    add_config_arguments(parser, 'model.recipe.local_cut.tau_knn=0.05', generator_name)
    parser.add_argument('--import')


def add_image_folder_argument(parser: CommandParser, name: str) -> None:
    """Add --images to a command that reads the names of images from a COCO JSON, called `name`."""
    parser.add_argument(
        '--images',
        dest='image_folder',
        type=image_folder,
        help=f'folder of the images, where {name} is a COCO JSON (default: looked for near it)',
    )


def report(error: Exception, program: str) -> int:
    """Write what the user must know of an exception to stderr, and return the exit code."""
    if os.environ.get(_DEBUG_KEY, '0') not in ('', '0'):
        traceback.print_exception(error)
    if _is_raised_by_a_config(error):
        sys.stderr.write(
            f'{program}: CONFIG must describe parts that can be built, got '
            f'{type(error).__name__}: {one_line(error)}; correct it or --cfg-options '
            f'({_DEBUG_KEY}=1 shows the place)\n'
        )
        return EXIT_USAGE
    if is_for_the_user(error):
        sys.stderr.write(f'{program}: {one_line(error)}\n')
        return EXIT_USAGE
    what = f'{type(error).__name__}: {one_line(error)}'
    sys.stderr.write(f'{program}: this is a bug of ours: {what}; {_keep(error, program)}\n')
    return EXIT_BUG


def is_for_the_user(error: BaseException) -> bool:
    """Tell whether a user can correct what is wrong: input, files, packages, memory."""
    is_for_them = isinstance(error, _USER_ERRORS) or _is_raised_by_us(error)
    return is_for_them or _is_of_machine(error) or _is_raised_by_a_config(error)


def _is_raised_by_a_config(error: BaseException) -> bool:
    """Tell an error without a remedy of a class that MMEngine was building from a config."""
    if _is_raised_by_us(error) or _is_of_machine(error):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parts[-3:] == _BUILDS for frame in frames)


def _is_of_machine(error: BaseException) -> bool:
    """Tell an error of memory, of a GPU, or of another process of the run."""
    is_of_class = isinstance(error, MemoryError) or type(error).__name__ in _USER_CLASSES
    return is_of_class or any(words in str(error) for words in _USER_WORDS)


def _is_raised_by_us(error: BaseException) -> bool:
    """Tell an error that a line of this package raises on purpose, with a remedy."""
    if type(error).__module__.partition('.')[0] == 'cuts3d_mm':
        return True
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or Path(__file__).parent not in Path(frames[-1].filename).parents:
        return False
    return (frames[-1].line or '').startswith(f'raise {type(error).__name__}(')


def one_line(error: BaseException) -> str:
    """Shorten the message of an exception and its notes to a line; its class without a message."""
    text = str(error)
    if _REMOTE_MARK in text:  # it ends with the message
        text = re.split(r'^[\w.]+: ', text, flags=re.MULTILINE)[-1]
    message = ' '.join(text.split()) or type(error).__name__
    return '; '.join([message, *getattr(error, '__notes__', ())])


def _keep(error: Exception, program: str) -> str:
    """Write the traceback to a file that only the user can read."""
    name = program.replace(' ', '-')
    try:
        number, path = tempfile.mkstemp(prefix=f'{name}-', suffix='.log')
        with open(number, 'w', encoding='utf-8', errors='replace') as file:
            file.write(f'cuts3d_mm {__version__}, Python {sys.version}\n{sys.argv}\n\n')
            file.write(''.join(traceback.format_exception(error)))
    except OSError as reason:
        return f'the traceback cannot be written ({reason}); {_DEBUG_KEY}=1 shows it'
    return f'please report it with {path}'


def add_labelling_arguments(parser: CommandParser) -> None:
    """Add what a command that labels many images needs."""
    parser.add_argument('images')
    parser.add_argument(
        'out', type=place_to_write, help='label store to write, a folder or s3://BUCKET/PREFIX'
    )
    add_image_folder_argument(parser, 'IMAGES')
    # --shard is the name of earlier releases.
    parser.add_argument(
        '--part', '--shard', default='0/1', metavar='I/N', help='do part I (from 0) of N'
    )
    parser.add_argument('--limit', type=int, help='only the first N images by name')
    parser.add_argument('--exclude')
    parser.add_argument(
        '--profile',
        type=local_place,
        metavar='FILE',
        help='write a trace of the stages for chrome://tracing, JSON, and print a table of them',
    )
    parser.add_argument('--max-failures')
    parser.add_argument(
        '--workers',
        type=int,
        help='processes, of one thread each; 0: this process (default: all cores)',
    )
    parser.add_argument(
        '--devices',
        '--device',
        default='auto',
        metavar='DEVICES',
        help='devices of the networks, such as cpu, cuda:0 or 0,1; each GPU, and cpu:0, gets a '
        'process that feeds the workers (default auto: all GPUs, else the CPU in every worker)',
    )
    parser.add_argument(
        '--executor',
        choices=['local', 'ray'],
        default='local',
        help='where the work is done: on this machine, or on all machines of a Ray cluster',
    )
    parser.add_argument(
        '--address',
        default='auto',
        help='address of the Ray cluster, HOST:PORT of its head (default auto: RAY_ADDRESS, or '
        'the one that runs on this machine)',
    )


def label_many(
    args: argparse.Namespace,
    labeller: LabellerSource | Callable[[], LabellerSource],
    batch_size: int | None,
    precision: str = 'auto',
    cut_on: str = 'auto',
    if_nothing: str = '',
) -> int:
    """Label the images that `add_labelling_arguments` has read, as `label` does, print a summary.

    Returns:
        The exit code; where no image has an instance, `if_nothing` is printed as advice.
    """
    from cuts3d_mm.images.listing import BY_OPTION, list_images, read_exclusions
    from cuts3d_mm.pipeline.labelling import label

    excluded = read_exclusions(args.exclude) if args.exclude else frozenset()
    images = list_images(args.images, args.image_folder, BY_OPTION)
    counts = label(
        labeller,
        images.without(excluded).first(args.limit),
        args.out,
        args.workers,
        f'labelling {args.images.name}',
        devices=args.devices,
        batch_size=batch_size,
        precision=precision,
        cut_on=cut_on,
        part=args.part,
        executor=args.executor,
        address=args.address,
        trace=args.profile,
    )
    code = report_counts(counts, args, f' {counts.instances} instances,')
    if if_nothing and counts.images > counts.failures and not counts.instances:
        print(f'{program()}: no instance in {counts.images} images; {if_nothing}', file=sys.stderr)
    return code


def report_counts(
    counts: Counts, args: argparse.Namespace, found: str = '', folder: Place | None = None
) -> int:
    """Print how many images a command has worked on, and return the exit code.

    Args:
        counts: images and failures.
        args: command line, with `out` and `max_failures`.
        found: what else is counted, such as ' 3 instances,'.
        folder: folder of `failures.jsonl`; None: `args.out`.
    """
    print(f'{counts.images} images:{found} {counts.failures} failures -> {args.out}')
    if counts.failures > args.max_failures * counts.images:
        path = (folder or args.out) / 'failures.jsonl'
        first = json.loads(path.read_text(encoding='utf-8').splitlines()[0])
        reason = ' '.join(f'{first["path"]}: {first["reason"]}'.split())
        print(
            f'{program()}: too many failures ({counts.failures} of {counts.images} images, at '
            f'most --max-failures {args.max_failures:g} of them), the first in {reason}; all of '
            f'them are in {path}',
            file=sys.stderr,
        )
        return EXIT_FAILURES
    return 0
