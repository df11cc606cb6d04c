"""Train in rounds, each on the labels that the detector of the last round has made."""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast, get_rank, get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from cuts3d_mm.files.atomic import name_atomically, write_whole
from cuts3d_mm.files.stored_run import require_same_run
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labels.merging import (
    KeptPredictions,
    LabelSelection,
    MergeRule,
    RuleName,
    merge_stores,
)
from cuts3d_mm.labels.store import shard_paths
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.models.roi_heads import DropLossBBoxHead
from cuts3d_mm.pipeline.devices import default_workers
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.pipeline.run import is_whole
from cuts3d_mm.pipeline.work import BuiltLabeller
from cuts3d_mm.registry import HOOKS, LOOPS
from cuts3d_mm.weights.checkpoints import digest_weights

SILENCE_LIMIT_S = 120.0  # network file systems may show a change a minute late
_BEATS_PER_LIMIT = 20
_POLL_S = 0.5
_MOST_HELPERS = 4  # processes that encode masks, 33 ms for an image, for one GPU


@HOOKS.register_module()
class SelfTrainingHook(Hook):
    """Let the detector label its own training images at the end of a round, and train on them.

    A round begins with a fresh optimizer and schedule, without DropLoss, on the predictions of
    the detector merged with the labels of the round before (`cuts3d predict` and
    `cuts3d merge-labels` do the same); of the first labels, those that `filter_cfg.select` of the
    data set chooses. Needs a `PseudoLabelDataset`, and `SeededInfiniteSampler`.

    Works in `custom_hooks` with `IterBasedTrainLoop`, and in `SelfTrainingLoop`. Saves the
    training before each round; it resumes exactly, in a round and in a prediction.

    Args:
        rounds (list[dict]): For each round `begin`, its first iteration, and `score_thr`, the
            smallest score of a prediction that becomes a label; `auto` finds it from how well
            the predictions agree with the labels of the round before.
        optim_wrapper (dict): Optimizer of the rounds.
        param_scheduler (list[dict]): Schedule of a round, counted from its beginning.
        train_dataloader (dict): Changes to the config's data loader in the rounds.
            Defaults to {}.
        model_train_cfg (dict): Changes to the detector's `train_cfg` in the rounds, in
            `rpn_proposal` alone. Defaults to {}.
        rule (str): Rule of `MergeRule`: `cutler` or `old-labels-win`. Defaults to `cutler`.
        max_overlap (float): Overlap of two masks at which the rule drops one. Defaults to 0.5.
        agreement (float): For `auto`: share of the predictions from the smallest score on that
            overlap a label by an IoU of 0.5. Labels miss objects, so more of them are right.
            Defaults to 0.7.
        refine (bool): Whether the masks of predictions follow the edges of the image, by the
            dense CRF of the pseudo-labels. Defaults to False.
        min_score (float): Smallest score of a prediction that is stored. Defaults to 0.
        max_per_image (int): Largest number of predictions of an image. Defaults to 30, as CutLER.
        confidence_source (str): Confidence of predicted labels: `map`, `score` or `none`, as in
            `DetectorLabeller`. Defaults to `none`.
        silence_limit_s (float): Time after which a rank that others wait for while they label,
            and that gives no sign of life, ends the training. Defaults to 120.
    """

    priority = 'LOWEST'  # after the schedule and the checkpoint

    def __init__(
        self,
        rounds: Sequence[dict[str, Any]],
        optim_wrapper: dict[str, Any],
        param_scheduler: Sequence[dict[str, Any]],
        train_dataloader: dict[str, Any] | None = None,
        model_train_cfg: dict[str, Any] | None = None,
        rule: RuleName = 'cutler',
        max_overlap: float = 0.5,
        agreement: float = 0.7,
        refine: bool = False,
        min_score: float = 0.0,
        max_per_image: int = 30,
        confidence_source: str = 'none',
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        if model_train_cfg and set(model_train_cfg) != {'rpn_proposal'}:
            raise ValueError(
                'model_train_cfg may hold rpn_proposal only, since a built detector reads nothing '
                f'else of it, got {", ".join(model_train_cfg)}'
            )
        self.begins = [int(one['begin']) for one in rounds]
        self.rules = [MergeRule(one['score_thr'], max_overlap, rule, agreement) for one in rounds]
        self.optim_wrapper = ConfigDict(optim_wrapper)
        self.param_scheduler = [ConfigDict(one) for one in param_scheduler]
        self.train_dataloader = train_dataloader or {}
        self.model_train_cfg = model_train_cfg or {}
        self.labelling: dict[str, Any] = {
            'score_thr': min_score,
            'max_per_image': max_per_image,
            'confidence_source': confidence_source,
            'refine': refine,
        }
        self.silence_limit_s = silence_limit_s

    def before_train(self, runner: Any) -> None:
        """Check the rounds; in a training that is resumed, go on in its round.

        Raises:
            ValueError: a round begins before another or when the training is over, the data
                cannot be resumed, or its labels are no label store.
        """
        begins, max_iters = self.begins, runner.max_iters
        is_rising = begins == sorted(set(begins))
        if not begins or not is_rising or begins[0] < 1 or begins[-1] >= max_iters:
            raise ValueError(
                'rounds must begin one after another, the first at 1 or later and the last before '
                f'max_iters {max_iters}, got {begins}'
            )
        dataset = training_labels(runner.cfg.train_dataloader.dataset)
        shard_paths(Path(dataset.get('data_root', '')) / dataset.ann_file)
        loop, done = runner.train_loop, runner.iter
        _require_skippable(loop.dataloader)
        if not done:
            return
        if isinstance(loop, SelfTrainingLoop):
            loop.evaluate_if_due()  # the interrupted training may have stopped before this
        number = sum(begin <= done for begin in self.begins)
        if number:
            self.begin_round(runner, number, done)
        else:
            loop.dataloader_iterator = _batches_after(loop.dataloader, done)
        if not getattr(loop, 'fast_forward_on_resume', False):
            loop.dataloader_iterator = _Resumed(loop.dataloader_iterator, done)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Make the optimizer of a round before MMEngine loads the state of the optimizer."""
        done = checkpoint['meta']['iter'] if runner._resume else 0  # weights alone have no meta
        if any(begin < done for begin in self.begins):
            self.reset_schedule(runner, done)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save the training where a round ends, and begin the next round."""
        done = runner.iter + 1
        if done in self.begins:
            number = self.begins.index(done) + 1
            _save(runner, round_folders(runner, number).checkpoint)
            self.begin_round(runner, number, done)

    def begin_round(self, runner: Any, number: int, done: int) -> None:
        """Label the images for a round, unless that is done, and train on the labels.

        Args:
            runner: its loop gets the data of the round, the detector loses its DropLoss.
            number: round, from 1.
            done: iterations that were trained.
        """
        begin = self.begins[number - 1]
        if done == begin:
            self.reset_schedule(runner, done)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        config = _merged_config(runner.cfg.train_dataloader, self.train_dataloader)
        dataset = training_labels(config.dataset)
        for buffer in model.buffers():  # running means of unsynchronised norms differ
            broadcast(buffer)
        folders = round_folders(runner, number)
        if done == begin:
            self._label(runner, number, model, dataset)
        elif not folders.labels.is_dir():
            raise ValueError(
                f'{folders.labels} must hold the labels of the round that the training is in, it '
                'is gone; resume from the last checkpoint before the round to make it again'
            )
        dataset.ann_file = str(folders.labels)
        if dataset.get('filter_cfg'):
            dataset.filter_cfg.pop('select', None)  # they were selected when they were merged
        loop = runner.train_loop
        loop.dataloader = runner.build_dataloader(config, seed=runner.seed + number)
        loop.dataloader_iterator = _batches_after(loop.dataloader, done - begin)
        model.train_cfg = _merged_config(model.train_cfg, self.model_train_cfg)
        for module in model.modules():
            if isinstance(module, DropLossBBoxHead):
                module.drop_iou = None

    def reset_schedule(self, runner: Any, done: int) -> None:
        """Give the runner a fresh optimizer and schedule of a round."""
        runner.optim_wrapper = runner.build_optim_wrapper(self.optim_wrapper)
        runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
        runner.optim_wrapper.initialize_count_status(runner.model, done, runner.max_iters)
        runner.param_schedulers = runner.build_param_scheduler(self.param_scheduler)

    def _label(self, runner: Any, number: int, model: Any, dataset: ConfigDict) -> None:
        """Predict, merge with the labels of the round before, and write the labels of a round.

        Each rank does its part, and all return when the labels are there. They wait for files,
        since a long prediction would exceed the time limit of a barrier. A prediction that was
        stopped goes on.
        """
        runner.logger.info(f'Round {number}: labelling the training images')
        pipeline = runner.cfg.test_dataloader.dataset.pipeline
        labeller = DetectorLabeller(model, pipeline, **self.labelling)
        folders, rule = round_folders(runner, number), self.rules[number - 1]
        old, images = _labelled_images(dataset)
        select = str((dataset.get('filter_cfg') or {}).get('select', 'none'))
        if number > 1:  # those were selected when they were merged
            old, select = round_folders(runner, number - 1).labels, 'none'
        identity = {'weights_sha256': digest_weights(model.state_dict()), **self.labelling}
        sizes = {path.name: path.stat().st_size for path in sorted(old.glob('labels-*'))}
        source = {'select': select, 'earlier_labels': sizes}
        origin = {'labeller': identity, 'rule': asdict(rule), **source}
        if folders.labels.is_dir():
            found = json.loads(folders.origin.read_text()) if folders.origin.is_file() else {}
            remedy = f'choose another --work-dir, or remove {folders.folder}'
            require_same_run(folders.labels, 'labels', found, origin, remedy)
        else:
            with _heartbeats(folders.heartbeats, self.silence_limit_s) as wait_until:
                device = str(next(model.parameters()).device)
                _predict(BuiltLabeller(labeller, identity), images, folders, device)
                if is_main_process():
                    wait_until(lambda: is_whole(folders.predictions, len(images.names)))
                    write_whole(folders.origin, json.dumps(origin, indent=1))
                    _merge(folders, old, rule, LabelSelection.parse(select))
                wait_until(folders.labels.is_dir)
        if is_main_process():
            runner.logger.info(f'Round {number}: {read_kept(folders).describe()}')


@LOOPS.register_module()
class SelfTrainingLoop(IterBasedTrainLoop):
    """Train in rounds: `IterBasedTrainLoop` with a `SelfTrainingHook`.

    Args:
        runner (Runner): Runs this loop.
        dataloader (dict | DataLoader): Data of the initial round.
        max_iters (int): Iterations of all rounds.
        val_begin (int): First iteration after which the detector is evaluated. Defaults to 1.
        val_interval (int): Iterations between two evaluations. Defaults to 1000.
        dynamic_intervals (list[tuple], optional): As in `IterBasedTrainLoop`. Defaults to None.
        rounds (dict): All other arguments are those of `SelfTrainingHook`.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        **rounds: Any,
    ) -> None:
        runner.register_hook(SelfTrainingHook(**rounds))
        super().__init__(runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals)

    def evaluate_if_due(self) -> None:
        """Evaluate the detector if this is due after the present iteration."""
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self._iter >= self.val_begin and is_due and self.runner.val_loop is not None:
            self.runner.val_loop.run()


@master_only
def _save(runner: Any, path: Path) -> None:
    """Save the whole state of a training, and note the file as the last checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with name_atomically(path) as temporary:
        runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=False)
    # The file in which MMEngine looks for the checkpoint to resume from.
    write_whole(Path(runner.work_dir) / 'last_checkpoint', str(path))


class RoundFolders:
    """Files and folders of a round.

    Attributes:
        checkpoint: checkpoint with the whole state of the training when the round begins.
        predictions: label store of what the detector of the round before predicts.
        heartbeats: signs of life of the ranks while they label.
        labels: label store that the round trains on.
        origin: JSON file that says what the labels were made from.
        kept: JSON file that says how many predictions are among the labels.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / 'begin.pth'
        self.predictions = folder / 'predictions'
        self.heartbeats = folder / 'heartbeats'
        self.labels = folder / 'labels'
        self.origin = folder / 'labels.json'
        self.kept = folder / 'kept.json'


def round_folders(runner: Any, number: int) -> RoundFolders:
    """Files and folders of a round of a training, from 1."""
    return RoundFolders(Path(runner.work_dir).resolve() / f'round_{number}')


def read_kept(folders: RoundFolders) -> KeptPredictions:
    """Read how many predictions are among the labels of a round."""
    return KeptPredictions(**json.loads(folders.kept.read_text()))


def _predict(
    labeller: BuiltLabeller, images: ImageList, folders: RoundFolders, device: str
) -> None:
    """Predict the part of the images that is this rank's."""
    helpers = 0  # processes that encode masks while the detector of this rank is on its GPU
    if device.partition(':')[0] != 'cpu':
        ranks_here = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
        helpers = max(1, min(_MOST_HELPERS, default_workers((device,)) // ranks_here))
    label(
        labeller,
        images,
        folders.predictions,
        helpers,
        f'{folders.folder.name}: labelling {images.root.name}',
        devices=device,
        batch_size=1,
        part=f'{get_rank()}/{get_world_size()}',
        progress=None if is_main_process() else _Silent(),
    )


def _merge(folders: RoundFolders, old: Path, rule: MergeRule, selection: LabelSelection) -> None:
    """Write the labels of a round, and how many of them are predictions."""
    old_thr = selection.threshold(LabelTable(old).scores()[1])
    with name_atomically(folders.labels) as temporary:
        _, kept = merge_stores(folders.predictions, old, temporary, rule, old_thr=old_thr)
        write_whole(folders.kept, json.dumps(asdict(kept)))


class _Silent:
    """Progress that is not shown, for all ranks but the first."""

    def start(self, total_images: int, done: Any) -> None:
        """Ignore."""

    def add(self, report: Any) -> None:
        """Ignore."""


def _merged_config(base: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """Change a config as a child config would: dicts are merged, lists are replaced."""
    config = Config({'base': copy.deepcopy(base)})  # checkpoints hold the config as it was
    config.merge_from_dict({'base': changes})
    return config.base


def training_labels(dataset: ConfigDict) -> ConfigDict:
    """Find the `PseudoLabelDataset` in the config of a data set, whatever wraps it.

    Raises:
        ValueError: there is no `PseudoLabelDataset`.
    """
    part = dataset
    while part is not None:
        if str(part.get('type')).endswith('PseudoLabelDataset'):
            return part
        part = part.get('dataset')
    raise ValueError(
        f'self-training needs a cuts3d_mm.PseudoLabelDataset to train on, got {dataset.type}'
    )


def _labelled_images(dataset: ConfigDict) -> tuple[Path, ImageList]:
    """Find the label store of a `PseudoLabelDataset`, and its images that could be read."""
    root = Path(dataset.get('data_root', ''))
    labels = root / dataset.ann_file
    table = LabelTable(labels)
    names = [
        name for name, failed in zip(table.names(), table.is_failure, strict=True) if not failed
    ]
    folder = root / dataset.get('data_prefix', {}).get('img', '')
    return labels, ImageList(folder, tuple(sorted(names)))


def _require_skippable(dataloader: Any) -> None:
    """Check that the data have no end, and that their sampler can skip for a resumed training."""
    sampler = dataloader.sampler
    if (
        not isinstance(sampler, InfiniteSampler)
        or not hasattr(sampler, 'skip')
        or not dataloader.batch_size
    ):
        raise ValueError(
            "self-training needs sampler=dict(type='cuts3d_mm.SeededInfiniteSampler') and "
            f'batch_sampler=None in train_dataloader, got {type(sampler).__name__}'
        )


def _batches_after(dataloader: Any, num_done: int) -> Iterator[Any]:
    """Iterate over the batches of a round after the first `num_done`."""
    _require_skippable(dataloader)
    dataloader.sampler.skip(num_done * dataloader.batch_size)
    return iter(dataloader)


class _Resumed:
    """Batches of a round, for a loop that first passes over all that it has trained on."""

    def __init__(self, batches: Iterator[Any], num_done: int) -> None:
        self._batches, self._left = batches, num_done

    def __next__(self) -> Any:
        if self._left:
            self._left -= 1
            return None
        return next(self._batches)

    def skip_iter(self, count: int) -> None:
        """Pass over batches, as newer versions of MMEngine do."""
        self._left -= count


@contextmanager
def _heartbeats(folder: Path, limit_s: float) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Show that this rank is alive; give the function that waits for the work of all ranks.

    The folder is on a file system that all ranks share. The function raises a RuntimeError if
    another rank has been silent for the limit.
    """
    this_rank, ended = get_rank(), threading.Event()
    others = [rank for rank in range(get_world_size()) if rank != this_rank]
    folder.mkdir(parents=True, exist_ok=True)

    def beat() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                (folder / f'rank_{this_rank}').write_text(f'{number} {time.time()}')
            except OSError:  # a full disk does not mean death; the next beat may succeed
                pass
            ended.wait(limit_s / _BEATS_PER_LIMIT)

    def last_beat(rank: int) -> bytes:
        try:
            return (folder / f'rank_{rank}').read_bytes()
        except OSError:
            return b''

    def wait_until(is_done: Callable[[], bool]) -> None:
        seen = dict.fromkeys(others, (b'', time.monotonic()))
        while not is_done():
            now = time.monotonic()
            for rank in others:
                found = last_beat(rank)
                if found != seen[rank][0]:
                    seen[rank] = found, now
                elif now - seen[rank][1] > limit_s:
                    raise RuntimeError(
                        f'rank {rank} must give a sign of life every {limit_s:g} s, it gave no '
                        'sign; start the training again with --resume'
                    )
            time.sleep(_POLL_S)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield wait_until
    finally:
        ended.set()
