"""The plan of a run, as `plan.json` keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.learning.schedule import Schedule

_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """What a run keeps for as long as it lives."""

    images: str  # folder, list or COCO JSON
    generator: str  # config
    depth: str | None  # folder of depth maps
    detector: str  # config of the training
    load_from: str | None  # weights to begin with
    is_offline: bool  # embedded features, tiny detector
    gpus: int  # 0: the CPU
    seed: int


@dataclass(frozen=True)
class Pass:
    """One set of images, one training on it with its rounds."""

    num_images: int
    num_to_cut: int  # images that no earlier pass has cut
    num_held_out: int
    num_rounds: int  # that were asked for, before a budget
    budget_s: float | None
    schedule: Schedule
    load_from: str | None


@dataclass(frozen=True)
class Plan:
    """All that is to be done; every pass but the last is done or given up."""

    settings: Settings
    passes: tuple[Pass, ...]

    @property
    def current(self) -> Pass:
        """The last pass."""
        return self.passes[-1]


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan, whole or not at all."""
    write_whole(path, json.dumps({'version': _VERSION, **asdict(plan)}, indent=1) + '\n')


def read_plan(path: Path) -> Plan | None:
    """Read a plan; None where there is none.

    Raises:
        ValueError: the file is none of ours.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if content['version'] != _VERSION:
            raise ValueError(f'version must be {_VERSION}, got {content["version"]}')
        passes = tuple(_pass(one) for one in content['passes'])
        if not passes:
            raise ValueError('there must be a pass')
        return Plan(Settings(**content['settings']), passes)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} must be the plan of a run of this version ({error}); choose another OUT'
        ) from error


def _pass(content: dict[str, Any]) -> Pass:
    schedule = dict(content['schedule'])
    schedule['round_steps'] = tuple(schedule['round_steps'])
    counts = [value for key, value in schedule.items() if key != 'round_steps']
    counts += schedule['round_steps']
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError(f'numbers of a schedule must be integers above 0, got {schedule}')
    return Pass(**{**content, 'schedule': Schedule(**schedule)})
