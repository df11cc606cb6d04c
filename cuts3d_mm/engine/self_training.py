"""Train in rounds, each on the labels that the detector of the last round has made."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast, get_rank, get_world_size, is_main_process, master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from cuts3d_mm.files.atomic import name_atomically, write_whole
from cuts3d_mm.files.stored_run import require_same_run
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labels.merging import KeptPredictions, MergeRule, merge_stores
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.models.roi_heads import DropLossBBoxHead
from cuts3d_mm.pipeline.devices import default_workers
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.pipeline.run import is_whole
from cuts3d_mm.pipeline.work import BuiltLabeller
from cuts3d_mm.registry import LOOPS
from cuts3d_mm.weights.checkpoints import digest_weights

from .runner import ResumeInRound

SILENCE_LIMIT_S = 120.0  # network file systems may show a change a minute late
_BEATS_PER_LIMIT = 20
_POLL_S = 0.5
_MOST_HELPERS = 4  # processes that encode masks, 33 ms for an image, for one GPU


@LOOPS.register_module()
class SelfTrainingLoop(IterBasedTrainLoop):
    """Train in rounds; when a round begins, the detector labels its own training images.

    A round begins with a fresh optimizer and schedule, without DropLoss, on the predictions of
    the detector merged with the labels of the round before (`cuts3d predict` and
    `cuts3d merge-labels` do the same). Needs a `PseudoLabelDataset`. Resumes in a round and in a
    prediction.

    Args:
        runner (Runner): Runs this loop.
        dataloader (dict | DataLoader): Data of the initial round.
        max_iters (int): Iterations of all rounds.
        rounds (list[dict]): For each round `begin`, its first iteration, and `score_thr`, the
            smallest score of a prediction that becomes a label.
        optim_wrapper (dict): Optimizer of the rounds.
        param_scheduler (list[dict]): Schedule of a round, counted from its beginning.
        train_dataloader (dict): Changes to the config's data loader in the rounds.
            Defaults to {}.
        model_train_cfg (dict): Changes to the detector's `train_cfg` in the rounds, in
            `rpn_proposal` alone. Defaults to {}.
        iou_thr (float): Mask IoU with a kept prediction at which an old label goes. Defaults
            to 0.5.
        max_per_image (int): Largest number of predictions of an image. Defaults to 30, as CutLER.
        confidence_source (str): Confidence of predicted labels: `map`, `score` or `none`, as in
            `DetectorLabeller`. Defaults to `none`.
        silence_limit_s (float): Time after which a rank that others wait for while they label,
            and that gives no sign of life, ends the training. Defaults to 120.
        kwargs: `val_begin`, `val_interval` and `dynamic_intervals` of `IterBasedTrainLoop`.
    """

    dataloader: Any
    dataloader_iterator: Any

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        rounds: Sequence[dict[str, Any]],
        optim_wrapper: dict[str, Any],
        param_scheduler: Sequence[dict[str, Any]],
        train_dataloader: dict[str, Any] | None = None,
        model_train_cfg: dict[str, Any] | None = None,
        iou_thr: float = 0.5,
        max_per_image: int = 30,
        confidence_source: str = 'none',
        silence_limit_s: float = SILENCE_LIMIT_S,
        **kwargs: Any,
    ) -> None:
        self.begins = round_begins(rounds, max_iters)
        if model_train_cfg and set(model_train_cfg) != {'rpn_proposal'}:
            raise ValueError(
                'model_train_cfg may hold rpn_proposal only, since a built detector reads nothing '
                f'else of it, got {", ".join(model_train_cfg)}'
            )
        super().__init__(runner, dataloader, max_iters, **kwargs)
        self._max_epochs = len(rounds) + 1  # a round is an epoch
        require_skippable(self.dataloader)
        self.rules = [MergeRule(one['score_thr'], iou_thr) for one in rounds]
        self.optim_wrapper = ConfigDict(optim_wrapper)
        self.param_scheduler = [ConfigDict(one) for one in param_scheduler]
        self.train_dataloader = train_dataloader or {}
        self.model_train_cfg = model_train_cfg or {}
        self.max_per_image = max_per_image
        self.confidence_source = confidence_source
        self.silence_limit_s = silence_limit_s
        runner.register_hook(ResumeInRound())

    def run(self) -> Any:
        """Train round after round."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._iter:
            self._evaluate()  # the interrupted training may have stopped before this
            self.dataloader_iterator = batches_after(self.dataloader, self._iter)
        for number, end in enumerate([*self.begins, self._max_iters]):
            last = 0 if self.stop_training else min(end, self._max_iters)
            if number and self._iter < last:
                self._begin(number)
            while self._iter < last and not self.stop_training:
                self._train_and_evaluate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _train_and_evaluate(self) -> None:
        self.runner.model.train()
        self.run_iter(next(self.dataloader_iterator))
        self._decide_current_val_interval()
        if self._iter in self.begins and self._iter < self._max_iters:
            self._save()
        self._evaluate()

    def _evaluate(self) -> None:
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and is_due:
            self.runner.val_loop.run()

    def _begin(self, number: int) -> None:
        """Label the images for a round, unless that is done, and train on the labels."""
        self._epoch, begin = number, self.begins[number - 1]
        if self._iter == begin:
            self.reset_schedule()
        model = self.runner.model
        model = model.module if is_model_wrapper(model) else model
        config = merged_config(self.runner.cfg.train_dataloader, self.train_dataloader)
        dataset = training_labels(config.dataset)
        for buffer in model.buffers():  # running means of unsynchronised norms differ
            broadcast(buffer)
        self._label(number, model, dataset)
        dataset.ann_file = str(self._folders(number).labels)
        self.dataloader = self.runner.build_dataloader(config, seed=self.runner.seed + number)
        self.dataloader_iterator = batches_after(self.dataloader, self._iter - begin)
        model.train_cfg = merged_config(model.train_cfg, self.model_train_cfg)
        for module in model.modules():
            if isinstance(module, DropLossBBoxHead):
                module.drop_iou = None

    def reset_schedule(self) -> None:
        """Give the runner a fresh optimizer and schedule of a round."""
        runner = self.runner
        runner.optim_wrapper = runner.build_optim_wrapper(self.optim_wrapper)
        runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
        runner.optim_wrapper.initialize_count_status(runner.model, self._iter, self._max_iters)
        runner.param_schedulers = runner.build_param_scheduler(self.param_scheduler)

    def _label(self, number: int, model: Any, dataset: ConfigDict) -> None:
        folders, begin = self._folders(number), self.begins[number - 1]
        if self._iter > begin:
            if folders.labels.is_dir():
                return
            raise ValueError(
                f'{folders.labels} must hold the labels of the round that the training is in, it '
                f'is gone; resume from {folders.checkpoint} to make it again'
            )
        self.runner.logger.info(f'Round {number}: labelling the training images')
        labeller = DetectorLabeller(
            model,
            self.runner.cfg.test_dataloader.dataset.pipeline,
            max_per_image=self.max_per_image,
            confidence_source=self.confidence_source,
        )
        earlier = self._folders(number - 1).labels if number > 1 else None
        rule, limit = self.rules[number - 1], self.silence_limit_s
        label_next_round(labeller, dataset, earlier, folders, rule, limit)
        if is_main_process():
            kept = KeptPredictions.of(folders.predictions, rule)
            self.runner.logger.info(f'Round {number}: {kept.describe()}')

    def _folders(self, number: int) -> RoundFolders:
        return RoundFolders(Path(self.runner.work_dir).resolve() / f'round_{number}')

    @master_only
    def _save(self) -> None:
        """Save the training where a round ends and the next one is about to label."""
        path = self._folders(self.begins.index(self._iter) + 1).checkpoint
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
    origin = {**identity, **asdict(rule), 'earlier_labels': _sizes(earlier or first_labels)}
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
            merge_stores(folders.predictions, earlier or first_labels, folders.labels, rule)
        alive.wait_until(folders.labels.is_dir)


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
        'max_per_image': labeller.max_per_image,
        'confidence_source': labeller.confidence_source,
    }


def merged_config(base: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """Change a config as a child config would: dicts are merged, lists are replaced."""
    config = Config({'base': base})
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


def round_begins(rounds: Sequence[dict[str, Any]], max_iters: int) -> list[int]:
    """List the first iteration of each round.

    Raises:
        ValueError: the numbers do not rise, or a round begins when the training is over.
    """
    begins = [int(one['begin']) for one in rounds]
    if not begins or sorted(set(begins)) != begins or begins[0] < 1 or begins[-1] >= max_iters:
        raise ValueError(
            'rounds must begin one after another, the first at 1 or later and the last before '
            f'max_iters {max_iters}, got {begins}'
        )
    return begins


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
