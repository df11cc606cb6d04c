"""Rounds of self-training within one training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dist import broadcast, get_rank, get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from cuts3d_mm.engine.heartbeats import SILENCE_LIMIT_S
from cuts3d_mm.engine.round_batches import RoundBatches, merged_config
from cuts3d_mm.engine.rounds import (
    RoundFolders,
    label_next_round,
    labelled_images,
    training_labels,
)
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labels.atomic import write_whole
from cuts3d_mm.labels.merging import MergeRule
from cuts3d_mm.models.roi_heads.drop_loss_bbox_head import DropLossBBoxHead
from cuts3d_mm.pipeline.plan import Split
from cuts3d_mm.registry import HOOKS

_ROUND_KEY = 'self_training_round'  # in a checkpoint


@HOOKS.register_module()
class SelfTrainingHook(Hook):
    """Train in rounds: at the begin of each the detector labels its own training images.

    A round begins with a fresh optimizer and schedule, without DropLoss, on the predictions of
    the detector merged with the labels of the round before (`cuts3d predict` and
    `cuts3d merge-labels` do the same). Needs `IterBasedTrainLoop`, whose `max_iters` covers
    all rounds, and a `PseudoLabelDataset`. Resumes in a round and in a prediction.

    Args:
        rounds (list[dict]): For each round `begin`, its first iteration, and `score_thr`, the
            smallest score of a prediction that becomes a label.
        optim_wrapper (dict): Optimizer of the rounds.
        param_scheduler (list[dict]): Schedule of a round, counted from its begin.
        train_dataloader (dict): What differs from the config's data loader in the rounds.
            Defaults to {}.
        model_train_cfg (dict): What differs from the detector's `train_cfg` in the rounds.
            Defaults to {}.
        iou_thr (float): Mask IoU with a kept prediction at which an old label goes. Defaults
            to 0.5.
        max_per_image (int): Most predictions of an image. Defaults to 30, as CutLER.
        confidence_source (str): Confidence of predicted labels: `map`, `score` or `none`, as in
            `DetectorLabeller`. Defaults to `none`.
        silence_limit_s (float): Time after which a rank that others wait for while they label,
            and that gives no sign of life, ends the training. Defaults to 120.
    """

    priority = 'LOWEST'  # after the checkpoint and the schedule of the iteration

    def __init__(
        self,
        rounds: Sequence[dict[str, Any]],
        optim_wrapper: dict[str, Any],
        param_scheduler: Sequence[dict[str, Any]],
        train_dataloader: dict[str, Any] | None = None,
        model_train_cfg: dict[str, Any] | None = None,
        iou_thr: float = 0.5,
        max_per_image: int = 30,
        confidence_source: str = 'none',
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self.begins = [int(one['begin']) for one in rounds]
        if not self.begins or sorted(set(self.begins)) != self.begins or self.begins[0] < 1:
            raise ValueError(
                f'rounds must begin one after another, the first at 1 or later, got {self.begins}'
            )
        self.rules = [MergeRule(one['score_thr'], iou_thr) for one in rounds]
        self.optim_wrapper = ConfigDict(optim_wrapper)
        self.param_scheduler = [ConfigDict(one) for one in param_scheduler]
        self.train_dataloader = train_dataloader or {}
        self.model_train_cfg = model_train_cfg or {}
        self.max_per_image = max_per_image
        self.confidence_source = confidence_source
        self.silence_limit_s = silence_limit_s
        self._round = 0  # whose optimizer and schedule the runner has
        self._is_swap_due = False

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Note the round."""
        checkpoint[_ROUND_KEY] = self._round

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Make the optimizer and schedule whose state is about to be loaded."""
        if runner._resume and checkpoint.get(_ROUND_KEY, 0):
            self._round = checkpoint[_ROUND_KEY]
            self._reset_schedule(runner)

    def before_train(self, runner: Any) -> None:
        """Go on in the round that a resumed training is in."""
        if runner.iter and self._is_evaluated_at(runner, runner.iter):
            runner.val_loop.run()  # the interrupted training may not have come to it
        current = sum(begin <= runner.iter for begin in self.begins)
        if current > self._round:
            self._round = current
            self._reset_schedule(runner)
        if current:
            self._swap(runner, num_advances=runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Begin a round where one begins with the next iteration."""
        if batch_idx + 1 not in self.begins or batch_idx + 1 >= runner.max_iters:
            return
        self._round = self.begins.index(batch_idx + 1) + 1
        self._reset_schedule(runner)
        self._save(runner)
        if self._is_evaluated_at(runner, batch_idx + 1):
            self._is_swap_due = True  # the detector is evaluated before it labels
        else:
            self._swap(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Go on with a begun round."""
        if self._is_swap_due:
            self._is_swap_due = False
            self._swap(runner)

    def _is_evaluated_at(self, runner: Any, iteration: int) -> bool:
        loop = runner.train_loop
        is_due = iteration % loop.val_interval == 0 or iteration == runner.max_iters
        return bool(runner.val_loop is not None and iteration >= loop.val_begin and is_due)

    def _folders(self, runner: Any, number: int) -> RoundFolders:
        return RoundFolders(Path(runner.work_dir).resolve() / f'round_{number}')

    def _reset_schedule(self, runner: Any) -> None:
        runner.optim_wrapper = runner.build_optim_wrapper(self.optim_wrapper)
        runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
        runner.optim_wrapper.initialize_count_status(runner.model, runner.iter, runner.max_iters)
        runner.param_schedulers = runner.build_param_scheduler(self.param_scheduler)

    @master_only
    def _save(self, runner: Any) -> None:
        path = self._folders(runner, self._round).checkpoint
        path.parent.mkdir(parents=True, exist_ok=True)
        runner.save_checkpoint(str(path.parent), path.name, by_epoch=False)
        # Where MMEngine looks for the checkpoint to resume from.
        write_whole(Path(runner.work_dir) / 'last_checkpoint', str(path))

    def _swap(self, runner: Any, num_advances: int = 0) -> None:
        """Label the images for the round, unless that is done, and train on the labels."""
        folders = self._folders(runner, self._round)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        config = merged_config(runner.cfg.train_dataloader, self.train_dataloader)
        dataset = training_labels(config.dataset)
        if not folders.labels.is_dir():
            self._label(runner, model, folders, dataset)
        dataset.ann_file = str(folders.labels)
        loop = runner.train_loop
        loop.dataloader = runner.build_dataloader(config, seed=runner.seed + self._round)
        num_done = max(0, runner.iter - self.begins[self._round - 1])
        loop.dataloader_iterator = RoundBatches(loop.dataloader, num_done, num_advances)
        model.train_cfg = merged_config(model.train_cfg, self.model_train_cfg)
        for module in model.modules():
            if isinstance(module, DropLossBBoxHead):
                module.drop_iou = None

    def _label(self, runner: Any, model: Any, folders: RoundFolders, dataset: ConfigDict) -> None:
        if runner.iter > self.begins[self._round - 1]:
            raise ValueError(
                f'{folders.labels} must hold the labels of the round that the training is in, it '
                f'is gone; resume from {folders.checkpoint} to make it again'
            )
        root = Path(dataset.get('data_root', ''))
        first_labels = root / dataset.ann_file
        image_folder = root / dataset.get('data_prefix', {}).get('img', '')
        images = labelled_images(first_labels, image_folder)
        earlier = self._folders(runner, self._round - 1).labels
        for buffer in model.buffers():  # running means of unsynchronised norms differ
            broadcast(buffer)
        runner.logger.info(f'Round {self._round}: labelling {len(images.names)} images')
        label_next_round(
            DetectorLabeller(
                model,
                runner.cfg.test_dataloader.dataset.pipeline,
                max_per_image=self.max_per_image,
                confidence_source=self.confidence_source,
            ),
            images,
            earlier if self._round > 1 else first_labels,
            folders,
            self.rules[self._round - 1],
            Split(get_rank(), get_world_size()),
            self.silence_limit_s,
        )
