"""Run by torch.distributed.run: train as tools/train.py does, then compare the ranks' weights."""

from __future__ import annotations

import sys

import torch
from torch import distributed

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import build_runner


def main() -> None:
    name, work_dir, *options = sys.argv[1:]
    runner = build_runner(load_config(name, options, 'pytorch', work_dir))
    runner.train()
    weights = torch.cat([value.flatten() for value in runner.model.module.state_dict().values()])
    everyone: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, weights.detach())
    if distributed.get_rank() == 0:
        same = all(torch.equal(everyone[0], other) for other in everyone)
        print(f'{len(everyone)} ranks, the same weights: {same}')


if __name__ == '__main__':
    main()
