"""A detector of a few norms and its data, small enough to write its statistics out."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import distributed, nn
from torch.utils.data import DataLoader, Dataset

from cuts3d_mm.datasets.samplers import SeededInfiniteSampler
from cuts3d_mm.engine.hooks import measure_norms, separate_batches

NUM_IMAGES = 12


class Images(Dataset):
    """Random crops: a sample depends on its index and on NumPy's global generator."""

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        index.seed_generators()
        height = int(np.random.choice([4, 6]))
        values = np.random.default_rng(int(index)).normal(index, 1 + index, (3, 6, 8))
        return torch.tensor(values[:, 6 - height :] + np.random.normal(), dtype=torch.float32)


class Scale(nn.Module):
    """A data preprocessor."""

    def forward(self, data, training=False):
        assert training
        return {'inputs': [one * 0.1 for one in data]}


class ToyDetector(BaseModel):
    """A backbone and a neck with norms, a head with another and with noise, a frozen norm."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(Scale())
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        self.neck = nn.BatchNorm2d(2)
        self.head = nn.BatchNorm2d(2)
        self.frozen = nn.BatchNorm2d(3)
        self.seen = []

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def extract_feat(self, inputs):
        return [self.neck(self.backbone(self.frozen(one[None]))) for one in inputs]

    def forward(self, inputs, mode='loss'):
        self.seen.append([one.sum().item() for one in inputs])
        features = torch.cat([self.head(one).flatten() for one in self.extract_feat(inputs)])
        return {'loss': (features + torch.randn(features.shape)).square().mean()}


def loader_of(num_workers=0, seed=3):
    dataset = Images()
    return DataLoader(
        dataset,
        batch_size=2,
        sampler=SeededInfiniteSampler(dataset, seed=seed),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=list,
    )


def measure_on_rank(rank, store, out):
    """Measure on one of two processes; what it saw and found goes to `out/RANK.pt`."""
    distributed.init_process_group('gloo', f'file://{store}', rank=rank, world_size=2)
    model = ToyDetector().train()
    with separate_batches(loader_of(), 3) as batches:
        kept = [next(batches) for _ in range(4)]
    measure_norms(model, kept, 4)
    torch.save((kept, model.neck.running_mean, model.neck.running_var), f'{out}/{rank}.pt')
    distributed.destroy_process_group()
