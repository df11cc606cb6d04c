"""Train in rounds, each on the labels that the detector of the last round has made."""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
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

    `SelfTrainingLoop` calls it and resumes exactly, in a round and in a prediction. In
    `custom_hooks` it works with `IterBasedTrainLoop`, too.

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
        require_rounds(self.begins, runner.max_iters)
        dataset = training_labels(runner.cfg.train_dataloader.dataset)
        shard_paths(Path(dataset.get('data_root', '')) / dataset.ann_file)
        require_skippable(runner.train_loop.dataloader)
        number = sum(begin <= runner.iter for begin in self.begins)
        if number and not self._is_called_by(runner.train_loop):
            self.begin_round(runner, number)
            loop = runner.train_loop
            if not getattr(loop, 'fast_forward_on_resume', False):
                loop.dataloader_iterator = _Resumed(loop.dataloader_iterator, runner.iter)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Make the optimizer of a round before MMEngine loads the state of the optimizer."""
        if runner._resume and checkpoint['meta']['iter'] > self.begins[0]:
            self.reset_schedule(runner, checkpoint['meta']['iter'])

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Begin a round, unless the loop does it."""
        done = runner.iter + 1
        if done in self.begins and not self._is_called_by(runner.train_loop):
            self.begin_round(runner, self.begins.index(done) + 1, done)

    def _is_called_by(self, loop: Any) -> bool:
        return getattr(loop, 'hook', None) is self

    def begin_round(self, runner: Any, number: int, done: int | None = None) -> None:
        """Label the images for a round, unless that is done, and train on the labels.

        Args:
            runner: its loop gets the data of the round, the detector loses its DropLoss.
            number: round, from 1.
            done: iterations that were trained; None: as the runner says.
        """
        done, begin = runner.iter if done is None else done, self.begins[number - 1]
        if done == begin:
            self.reset_schedule(runner, done)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        config = merged_config(runner.cfg.train_dataloader, self.train_dataloader)
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
        loop.dataloader_iterator = batches_after(loop.dataloader, done - begin)
        model.train_cfg = merged_config(model.train_cfg, self.model_train_cfg)
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
        runner.logger.info(f'Round {number}: labelling the training images')
        pipeline = runner.cfg.test_dataloader.dataset.pipeline
        labeller = DetectorLabeller(model, pipeline, **self.labelling)
        earlier = round_folders(runner, number - 1).labels if number > 1 else None
        folders, rule = round_folders(runner, number), self.rules[number - 1]
        label_next_round(labeller, dataset, earlier, folders, rule, self.silence_limit_s)
        if is_main_process():
            runner.logger.info(f'Round {number}: {read_kept(folders).describe()}')


@LOOPS.register_module()
class SelfTrainingLoop(IterBasedTrainLoop):
    """Train in rounds: `IterBasedTrainLoop` that calls `SelfTrainingHook` and resumes exactly.

    Args:
        runner (Runner): Runs this loop.
        dataloader (dict | DataLoader): Data of the initial round.
        max_iters (int): Iterations of all rounds.
        val_begin (int): First iteration after which the detector is evaluated. Defaults to 1.
        val_interval (int): Iterations between two evaluations. Defaults to 1000.
        dynamic_intervals (list[tuple], optional): As in `IterBasedTrainLoop`. Defaults to None.
        rounds (dict): All other arguments are those of `SelfTrainingHook`.
    """

    dataloader: Any
    dataloader_iterator: Any

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
        self.hook = SelfTrainingHook(**rounds)
        require_rounds(self.hook.begins, max_iters)
        super().__init__(runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals)
        self._max_epochs = len(self.hook.begins) + 1  # a round is an epoch
        require_skippable(self.dataloader)
        runner.register_hook(self.hook)

    def run(self) -> Any:
        """Train round after round."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._iter:
            self._evaluate()  # the interrupted training may have stopped before this
            self.dataloader_iterator = batches_after(self.dataloader, self._iter)
        for number, end in enumerate([*self.hook.begins, self._max_iters]):
            last = 0 if self.stop_training else min(end, self._max_iters)
            if number and self._iter < last:
                self._epoch = number
                self.hook.begin_round(self.runner, number)
            while self._iter < last and not self.stop_training:
                self._train_and_evaluate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _train_and_evaluate(self) -> None:
        self.runner.model.train()
        self.run_iter(next(self.dataloader_iterator))
        self._decide_current_val_interval()
        if self._iter in self.hook.begins and self._iter < self._max_iters:
            self._save()
        self._evaluate()

    def _evaluate(self) -> None:
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and is_due:
            self.runner.val_loop.run()

    @master_only
    def _save(self) -> None:
        """Save the training where a round ends and the next one is about to label."""
        number = self.hook.begins.index(self._iter) + 1
        path = round_folders(self.runner, number).checkpoint
        path.parent.mkdir(parents=True, exist_ok=True)
        with name_atomically(path) as temporary:
            self.runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=True)
        # The file in which MMEngine looks for the checkpoint to resume from.
        write_whole(Path(self.runner.work_dir) / 'last_checkpoint', str(path))


@dataclass(frozen=True)
class RoundFolders:
    """Files and folders of a round."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Checkpoint with the whole state of the training when the round begins."""
        return self.folder / 'begin.pth'

    @property
    def predictions(self) -> Path:
        """Label store of what the detector of the round before predicts."""
        return self.folder / 'predictions'

    @property
    def heartbeats(self) -> Path:
        """Signs of life of the ranks while they label."""
        return self.folder / 'heartbeats'

    @property
    def labels(self) -> Path:
        """Label store that the round trains on."""
        return self.folder / 'labels'

    @property
    def origin(self) -> Path:
        """JSON file that says what the labels were made from."""
        return self.folder / 'labels.json'

    @property
    def kept(self) -> Path:
        """JSON file that says how many predictions are among the labels."""
        return self.folder / 'kept.json'


def round_folders(runner: Any, number: int) -> RoundFolders:
    """Files and folders of a round of a training, from 1."""
    return RoundFolders(Path(runner.work_dir).resolve() / f'round_{number}')


def read_kept(folders: RoundFolders) -> KeptPredictions:
    """Read how many predictions are among the labels of a round."""
    return KeptPredictions(**json.loads(folders.kept.read_text()))


def label_next_round(
    labeller: DetectorLabeller,
    dataset: ConfigDict,
    earlier: Path | None,
    folders: RoundFolders,
    rule: MergeRule,
    silence_limit_s: float,
) -> None:
    """Predict, merge with the labels of the round before, and write the labels of a round.

    All ranks call this, each does its part, and all return when the labels are there. They wait
    for files, since a long prediction would exceed the time limit of a barrier. A prediction that
    was stopped goes on.

    Args:
        labeller: labeller with the present weights of the detector.
        dataset: `PseudoLabelDataset` of the initial round; its images are labelled.
        earlier: labels of the round before; None stands for the labels of `dataset`.
        folders: folders of the round, on a file system that all ranks share.
        rule: rule by which predictions become labels.
        silence_limit_s: time after which a silent rank counts as dead.

    Raises:
        RankLost: another rank has died.
        ValueError: the folder holds labels of another training.
    """
    first_labels, images = labelled_images(dataset)
    identity = _identity(labeller)
    select = 'none' if earlier else (dataset.get('filter_cfg') or {}).get('select', 'none')
    source = {'select': str(select), 'earlier_labels': _sizes(earlier or first_labels)}
    origin = {'labeller': identity, 'rule': asdict(rule), **source}
    if folders.labels.is_dir():
        found = json.loads(folders.origin.read_text()) if folders.origin.is_file() else {}
        remedy = f'choose another --work-dir, or remove {folders.folder}'
        require_same_run(folders.labels, 'labels', found, origin, remedy)
        return
    rank, num_ranks = get_rank(), get_world_size()
    device = str(next(labeller.detector.parameters()).device)
    with Heartbeats(folders.heartbeats, rank, num_ranks, silence_limit_s) as alive:
        label(
            BuiltLabeller(labeller, identity),
            images,
            folders.predictions,
            _num_helpers(device),
            f'{folders.folder.name}: labelling {images.root.name}',
            devices=device,
            batch_size=1,
            part=f'{rank}/{num_ranks}',
            progress=_Silent() if rank else None,
        )
        if not rank:
            alive.wait_until(lambda: is_whole(folders.predictions, len(images.names)))
            write_whole(folders.origin, json.dumps(origin, indent=1))
            _merge(folders, earlier or first_labels, rule, LabelSelection.parse(select))
        alive.wait_until(folders.labels.is_dir)


def _merge(folders: RoundFolders, old: Path, rule: MergeRule, selection: LabelSelection) -> None:
    """Write the labels of a round, and how many of them are predictions."""
    old_thr = selection.threshold(LabelTable(old).scores()[1])
    with name_atomically(folders.labels) as temporary:
        _, kept = merge_stores(folders.predictions, old, temporary, rule, old_thr=old_thr)
        write_whole(folders.kept, json.dumps(asdict(kept)))


def _num_helpers(device: str) -> int:
    """Processes that encode masks while the detector of this rank is on its GPU; none without."""
    if device.partition(':')[0] == 'cpu':
        return 0
    ranks_here = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
    return max(1, min(_MOST_HELPERS, default_workers((device,)) // ranks_here))


def _sizes(labels: Path) -> dict[str, int]:
    """Name and size of each file of a label store."""
    return {path.name: path.stat().st_size for path in sorted(labels.glob('labels-*'))}


class _Silent:
    """Progress that is not shown, for all ranks but the first."""

    def start(self, total_images: int, done: Any) -> None:
        """Ignore."""

    def add(self, report: Any) -> None:
        """Ignore."""


def _identity(labeller: DetectorLabeller) -> dict[str, Any]:
    return {
        'weights_sha256': digest_weights(labeller.detector.state_dict()),
        'score_thr': labeller.score_thr,
        'max_per_image': labeller.max_per_image,
        'confidence_source': labeller.confidence_source,
        'refine': labeller.refine,
    }


def merged_config(base: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
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


def labelled_images(dataset: ConfigDict) -> tuple[Path, ImageList]:
    """Find the label store of a `PseudoLabelDataset`, and its images that could be read."""
    root = Path(dataset.get('data_root', ''))
    labels = root / dataset.ann_file
    table = LabelTable(labels)
    names = [
        name for name, failed in zip(table.names(), table.is_failure, strict=True) if not failed
    ]
    folder = root / dataset.get('data_prefix', {}).get('img', '')
    return labels, ImageList(folder, tuple(sorted(names)))


def require_rounds(begins: Sequence[int], max_iters: int) -> None:
    """Check the first iterations of rounds.

    Raises:
        ValueError: the numbers do not rise, or a round begins when the training is over.
    """
    rising = sorted(set(begins))
    if not begins or rising != list(begins) or begins[0] < 1 or begins[-1] >= max_iters:
        raise ValueError(
            'rounds must begin one after another, the first at 1 or later and the last before '
            f'max_iters {max_iters}, got {list(begins)}'
        )


def require_skippable(dataloader: Any) -> None:
    """Check that a resumed training can advance a data loader.

    Raises:
        ValueError: the data have an end, or their sampler cannot skip.
    """
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


def batches_after(dataloader: Any, num_done: int) -> Iterator[Any]:
    """Iterate over the batches of a round after the first `num_done`."""
    require_skippable(dataloader)
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


class RankLost(RuntimeError):
    """Another rank has died."""


class Heartbeats:
    """Context manager that shows that this rank is alive, and that can wait for others.

    Args:
        folder: folder of the heartbeats, on a file system that all ranks share.
        rank: number of this rank.
        num_ranks: number of ranks of the training.
        limit_s: time for which a rank may be silent.
    """

    def __init__(self, folder: Path, rank: int, num_ranks: int, limit_s: float) -> None:
        self._folder, self._rank, self._limit_s = folder, rank, limit_s
        self._others = [one for one in range(num_ranks) if one != rank]
        self._ended = threading.Event()

    def __enter__(self) -> Heartbeats:
        """Begin to beat."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def wait_until(self, is_done: Callable[[], bool]) -> None:
        """Wait for the work that the ranks share.

        Raises:
            RankLost: another rank has been silent for the limit.
        """
        seen = dict.fromkeys(self._others, (b'', time.monotonic()))
        while not is_done():
            now = time.monotonic()
            for rank in self._others:
                beat = self._read(rank)
                if beat != seen[rank][0]:
                    seen[rank] = beat, now
                elif now - seen[rank][1] > self._limit_s:
                    raise RankLost(
                        f'rank {rank} must give a sign of life every {self._limit_s:g} s, it gave '
                        'no sign; start the training again with --resume'
                    )
            time.sleep(_POLL_S)

    def _beat(self) -> None:
        path, number = self._folder / f'rank_{self._rank}', 0
        while not self._ended.is_set():
            number += 1
            try:
                path.write_text(f'{number} {time.time()}')
            except OSError:  # a full disk does not mean death; the next beat may succeed
                pass
            self._ended.wait(self._limit_s / _BEATS_PER_LIMIT)

    def _read(self, rank: int) -> bytes:
        try:
            return (self._folder / f'rank_{rank}').read_bytes()
        except OSError:
            return b''
