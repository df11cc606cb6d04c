"""Estimate how long a run takes, from figures measured once."""

from __future__ import annotations

from dataclasses import dataclass

from cuts3d_mm.learning.schedule import Schedule
from cuts3d_mm.pipeline.devices import default_workers

SOURCE = 'from constants in cuts3d_mm/learning/speed.py, not timed on this machine'
_SHARE_OF_DETECTION = 0.4  # time of a prediction over that of a training step, per image


@dataclass(frozen=True)
class Speed:
    """Seconds per image, of one GPU or one core; a shared machine may take twice as long."""

    cut_s: float
    train_s: float


# Measured on one core of a shared machine: scenes of 400 x 300 px, tiny detector, 1 thread.
_EMBEDDED = Speed(cut_s=0.5, train_s=0.5)
# Not measured: networks of a ViT-B/8 and ZoeDepth and a ResNet-50 detector at 800 px.
_NETWORKS_GPU = Speed(cut_s=0.1, train_s=0.15)
_NETWORKS_CPU = Speed(cut_s=40.0, train_s=15.0)


def speed_of(is_embedded: bool, gpus: int) -> Speed:
    """Look up the figures for features and a detector.

    Args:
        is_embedded: hand-made features and the tiny detector, not networks.
        gpus: 0 for the CPU.
    """
    if is_embedded:
        return _EMBEDDED
    return _NETWORKS_GPU if gpus else _NETWORKS_CPU


def num_cutting(gpus: int, workers: int | None) -> int:
    """GPUs that cut, or processes on the CPU; workers None: all cores."""
    return gpus or (default_workers(('cpu',)) if workers is None else max(1, workers))


def cut_seconds(speed: Speed, num_images: int, parallel: int) -> float:
    """Seconds to cut images on a number of cores or GPUs."""
    return speed.cut_s * num_images / parallel


def train_seconds(speed: Speed, schedule: Schedule, gpus: int) -> float:
    """Seconds of all steps, and of the predictions between the rounds."""
    detections = len(schedule.round_steps) * schedule.num_images * _SHARE_OF_DETECTION
    images = schedule.total_steps * schedule.batch_size + detections
    return speed.train_s * images / max(1, gpus)


def most_steps(speed: Speed, schedule: Schedule, gpus: int, budget_s: float) -> int:
    """How many steps of a schedule fit into a time; at least one for each stage."""
    whole = train_seconds(speed, schedule, gpus)
    fitting = int(schedule.total_steps * budget_s / whole) if whole else schedule.total_steps
    return max(1 + len(schedule.round_steps), fitting)
