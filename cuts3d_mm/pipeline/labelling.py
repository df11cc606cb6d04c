"""Label the images of a run, by a generator or by a detector; resumes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.depth.files import require_first_maps
from cuts3d_mm.labellers.networks import with_precision
from cuts3d_mm.labellers.registry import LABELLERS, check_labeller, fetch_weights
from cuts3d_mm.labels.store import Counts

from .devices import (
    choose_batch_size,
    cluster_devices,
    default_workers,
    is_cut_on_device,
    parse_devices,
    resolve_devices,
)
from .local import LocalExecutor
from .progress import ProgressLine, ProgressReport, profiled
from .run import Executor, Split, label_images
from .work import BuiltLabeller, ConfiguredLabeller, LabellerSource, WorkOrder


def label(
    labeller: LabellerSource | Callable[[], LabellerSource],
    images: ImageList,
    out: Place,
    workers: int | None,
    task: str,
    *,
    devices: str = 'auto',
    batch_size: int | None = None,
    precision: str = 'auto',
    cut_on: str = 'auto',
    part: str = '0/1',
    executor: str = 'local',
    address: str = 'auto',
    trace: Path | None = None,
    progress: ProgressReport | None = None,
) -> Counts:
    """Label images into a store, or go on where an earlier call was interrupted.

    What is quick to check is checked first, before weights are read or downloaded.

    Args:
        labeller: what labels an image; or a function that makes it, where that takes seconds,
            reads or downloads weights.
        out: label store to write, or to go on with.
        workers: processes of one thread each; 0: this process; None: all cores.
        task: what is going on, for the line of progress, such as 'labelling val2017'.
        devices: as `--devices` of `cuts3d generate`; 'auto' for all GPUs, else the CPU.
        batch_size: images that go through the networks together; None: that of the run in
            `out`, or by the memory of the device.
        precision: precision of the networks, see `with_precision`.
        cut_on: where masks are cut and refined, see `is_cut_on_device`.
        part: part I of N of the run, as I/N.
        executor: 'local' for this machine, 'ray' for a Ray cluster.
        trace: JSON file for a profile of the stages; None: no profile.
        progress: what is told about the progress; None: a line on the terminal.

    Returns:
        Counts of this part of the run, earlier calls included.

    Raises:
        ValueError: an argument or the config is wrong, or `out` holds the labels of another run.
        HubError, FileNotFoundError: there are no such weights, or they cannot be downloaded.
        FolderInUse: another process labels into `out`.
        WorkerLost: a worker process died.
    """
    for name, value, least in (('--workers', workers, 0), ('--batch-size', batch_size, 1)):
        if value is not None and value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')
    split = Split.parse(part)
    on_cluster = executor == 'ray'
    if on_cluster and workers is not None:
        raise ValueError(
            '--workers must be left out with --executor ray: it uses all CPUs of the cluster'
        )
    if isinstance(labeller, BuiltLabeller):
        names: tuple[str, ...] = (devices,)  # where it is already
    elif on_cluster:
        names = cluster_devices(devices, batch_size)
    else:
        names = parse_devices(devices)
    source, used = _load(labeller, names, precision)
    if isinstance(source, ConfiguredLabeller):
        require_first_maps(source.config.get('depth'), images.names)
    where: Executor
    if on_cluster:
        from .ray import RayExecutor

        where = RayExecutor(address, gpus=int(used == ('cuda',)))
    elif workers == 0 and len(used) > 1:
        raise ValueError('--workers must be at least 1 with several --devices, got 0')
    else:
        most = min(default_workers(used) if workers is None else workers, len(images.names))
        own = () if used == ('cpu',) else used
        where = LocalExecutor(most, own, isinstance(source, BuiltLabeller))
    size = batch_size or choose_batch_size(out, used[0])
    is_cut_there = is_cut_on_device(cut_on, out, used[0])
    if is_cut_there and isinstance(source, ConfiguredLabeller):
        kind: Any = LABELLERS.check(source.config)
        if not hasattr(kind, 'cut_on'):
            raise ValueError(f'--cut-on device needs a PseudoLabelGenerator, got {kind.__name__}')
        kind.require_on_device(source.config)
    order = WorkOrder(source, images.root, out, size, used[0], is_cut_there=is_cut_there)
    with ExitStack() as stack:
        line = progress or stack.enter_context(ProgressLine(task))
        watched = stack.enter_context(profiled(line, trace))
        return label_images(order, images, where, split, watched)


def _load(
    labeller: LabellerSource | Callable[[], LabellerSource],
    devices: tuple[str, ...],
    precision: str,
) -> tuple[LabellerSource, tuple[str, ...]]:
    """Check a labeller, fetch its weights, and choose its devices when its parts are imported."""
    source = labeller() if callable(labeller) else labeller
    if isinstance(source, BuiltLabeller):
        return source, devices
    source.prepare()
    check_labeller(source.config)
    devices = resolve_devices(devices)
    source = replace(source, config=with_precision(source.config, devices[0], precision))
    fetch_weights(source.identity)
    return source, devices
