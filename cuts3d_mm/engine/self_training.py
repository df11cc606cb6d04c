"""Train in rounds of self-training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dist import broadcast, is_main_process, master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from cuts3d_mm.engine.heartbeats import SILENCE_LIMIT_S
from cuts3d_mm.engine.resume import ResumeInRound
from cuts3d_mm.engine.round_data import (
    batches_after,
    merged_config,
    require_skippable,
    round_begins,
    training_labels,
)
from cuts3d_mm.engine.rounds import RoundFolders, label_next_round
from cuts3d_mm.files.atomic import name_atomically, write_whole
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labels.merging import KeptPredictions, MergeRule
from cuts3d_mm.models.roi_heads import DropLossBBoxHead
from cuts3d_mm.registry import LOOPS


@LOOPS.register_module()
class SelfTrainingLoop(IterBasedTrainLoop):
    """Train in rounds: at the begin of each the detector labels its own training images.

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
        param_scheduler (list[dict]): Schedule of a round, counted from its begin.
        train_dataloader (dict): What differs from the config's data loader in the rounds.
            Defaults to {}.
        model_train_cfg (dict): What differs from the detector's `train_cfg` in the rounds, in
            `rpn_proposal` alone. Defaults to {}.
        iou_thr (float): Mask IoU with a kept prediction at which an old label goes. Defaults
            to 0.5.
        max_per_image (int): Most predictions of an image. Defaults to 30, as CutLER.
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
            self._evaluate()  # the interrupted training may not have come to it
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
        # Where MMEngine looks for the checkpoint to resume from.
        write_whole(Path(self.runner.work_dir) / 'last_checkpoint', str(path))
