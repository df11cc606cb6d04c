"""What detectron2's R-CNNs with an FPN compute at inference: slow, obvious, by its names.

Written from the published behaviour, on PyTorch and torchvision alone. One image, one class.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional
from torchvision.ops import nms, roi_align

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BLOCKS = {'res2': 3, 'res3': 4, 'res4': 6, 'res5': 3}
LARGEST_EXPONENT = math.log(1000 / 16)
RPN_NMS_IOU = 0.65  # of CutLER's yaml, not detectron2's 0.7
DELTA_WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))


class Detectron2:
    """A (Cascade) Mask R-CNN; `weights` has detectron2's names."""

    def __init__(self, weights):
        self.weights = weights
        self.is_cascade = 'roi_heads.box_head.0.fc1.weight' in weights

    def __call__(self, image, original_hw):
        """Boxes, scores and masks of an RGB image (3, H, W) that was `original_hw` large."""
        image_hw = tuple(image.shape[-2:])
        features = self.pyramid(self.normalize(image))
        boxes, probability = self.proposals(features, image_hw), 0
        stages = 3 if self.is_cascade else 1
        for stage in range(stages):
            scores, deltas = self.box_head(self.pool(features, boxes, 7), stage)
            probability = probability + scores.softmax(1) / stages
            boxes = clip(apply_deltas(boxes, deltas, DELTA_WEIGHTS[stage]), image_hw)
        scores = probability[:, 0]  # objects first, background last
        keep = nms(boxes, scores, 0.5)[:100]
        boxes, scores = boxes[keep], scores[keep]
        probability = self.mask_head(self.pool(features, boxes, 14)).sigmoid()
        scale = torch.tensor([original_hw[1] / image_hw[1], original_hw[0] / image_hw[0]] * 2)
        boxes = clip(boxes * scale, original_hw)
        masks = [paste(*pair, original_hw) for pair in zip(probability[:, 0], boxes, strict=True)]
        return boxes, scores, torch.stack(masks)

    def normalize(self, image):
        image = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        height, width = image.shape[-2:]
        return functional.pad(image, (0, -width % 32, 0, -height % 32))[None]

    def conv(self, x, name, **options):
        x = functional.conv2d(
            x, self.weights[f'{name}.weight'], self.weights.get(f'{name}.bias'), **options
        )
        if f'{name}.norm.weight' in self.weights:
            parts = ('running_mean', 'running_var', 'weight', 'bias')
            x = functional.batch_norm(x, *(self.weights[f'{name}.norm.{part}'] for part in parts))
        return x

    def linear(self, x, name):
        return functional.linear(x, self.weights[f'{name}.weight'], self.weights[f'{name}.bias'])

    def block(self, x, name, stride):
        out = self.conv(x, f'{name}.conv1').relu()
        out = self.conv(out, f'{name}.conv2', stride=stride, padding=1).relu()
        out = self.conv(out, f'{name}.conv3')
        if f'{name}.shortcut.weight' in self.weights:
            x = self.conv(x, f'{name}.shortcut', stride=stride)
        return (out + x).relu()

    def pyramid(self, x):
        prefix = 'backbone.bottom_up'
        x = self.conv(x, f'{prefix}.stem.conv1', stride=2, padding=3).relu()
        x = functional.max_pool2d(x, 3, 2, 1)
        bottom_up = []
        for stage, count in BLOCKS.items():
            for index in range(count):
                stride = 2 if index == 0 and stage != 'res2' else 1
                x = self.block(x, f'{prefix}.{stage}.{index}', stride)
            bottom_up.append(x)
        outputs, top = [], None
        for level in (5, 4, 3, 2):
            lateral = self.conv(bottom_up[level - 2], f'backbone.fpn_lateral{level}')
            if top is not None:
                lateral = lateral + functional.interpolate(top, scale_factor=2)
            top = lateral
            outputs.insert(0, self.conv(top, f'backbone.fpn_output{level}', padding=1))
        return [*outputs, functional.max_pool2d(outputs[-1], 1, 2)]  # p2 ... p6

    def proposals(self, features, image_hw):
        prefix = 'proposal_generator.rpn_head'
        boxes, logits, levels = [], [], []
        for level, feature in enumerate(features):
            hidden = self.conv(feature, f'{prefix}.conv', padding=1).relu()
            objectness = self.conv(hidden, f'{prefix}.objectness_logits')[0]
            deltas = self.conv(hidden, f'{prefix}.anchor_deltas')[0]
            grid_hw = objectness.shape[-2:]
            deltas = deltas.view(3, 4, *grid_hw).permute(2, 3, 0, 1).reshape(-1, 4)
            objectness = objectness.permute(1, 2, 0).flatten()
            best = objectness.topk(min(1000, len(objectness))).indices
            anchors = make_anchors(grid_hw, 4 << level, 32 << level)[best]
            boxes.append(clip(apply_deltas(anchors, deltas[best], (1, 1, 1, 1)), image_hw))
            logits.append(objectness[best])
            levels.append(torch.full((len(best),), level))
        boxes, logits, levels = torch.cat(boxes), torch.cat(logits), torch.cat(levels)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, logits, levels = boxes[solid], logits[solid], levels[solid]
        kept = []
        for level in range(len(features)):
            where = (levels == level).nonzero()[:, 0]
            kept.append(where[nms(boxes[where], logits[where], RPN_NMS_IOU)])
        kept = torch.cat(kept)
        return boxes[kept[logits[kept].argsort(descending=True)[:1000]]]

    def pool(self, features, boxes, size):
        sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        levels = torch.floor(4 + torch.log2(sides / 224 + 1e-8)).clamp(2, 5)
        pooled = torch.zeros(len(boxes), features[0].shape[1], size, size)
        for level in (2, 3, 4, 5):
            chosen = levels == level
            rois = torch.cat([torch.zeros(int(chosen.sum()), 1), boxes[chosen]], dim=1)
            pooled[chosen] = roi_align(
                features[level - 2], rois, size, 1 / (1 << level), sampling_ratio=-1, aligned=True
            )
        return pooled

    def box_head(self, pooled, stage):
        suffix = f'.{stage}' if self.is_cascade else ''
        x = pooled.flatten(1)
        for layer in ('fc1', 'fc2'):
            x = self.linear(x, f'roi_heads.box_head{suffix}.{layer}').relu()
        predictor = f'roi_heads.box_predictor{suffix}'
        return self.linear(x, f'{predictor}.cls_score'), self.linear(x, f'{predictor}.bbox_pred')

    def mask_head(self, pooled):
        prefix = 'roi_heads.mask_head'
        for index in (1, 2, 3, 4):
            pooled = self.conv(pooled, f'{prefix}.mask_fcn{index}', padding=1).relu()
        weights = (self.weights[f'{prefix}.deconv.{part}'] for part in ('weight', 'bias'))
        pooled = functional.conv_transpose2d(pooled, *weights, stride=2).relu()
        return self.conv(pooled, f'{prefix}.predictor')


def make_anchors(grid_hw, stride, size):
    """Anchors of a level, ratios (height / width) 0.5, 1, 2 at each corner of a cell."""
    anchors = []
    for row in range(grid_hw[0]):
        for column in range(grid_hw[1]):
            for ratio in (0.5, 1.0, 2.0):
                width = math.sqrt(size * size / ratio)
                half_w, half_h = width / 2, width * ratio / 2
                x, y = column * stride, row * stride
                anchors.append((x - half_w, y - half_h, x + half_w, y + half_h))
    return torch.tensor(anchors)


def apply_deltas(boxes, deltas, weights):
    dx, dy, dw, dh = (deltas / torch.tensor(weights, dtype=torch.float32)).unbind(1)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x = boxes[:, 0] + 0.5 * width + dx * width
    y = boxes[:, 1] + 0.5 * height + dy * height
    width = width * dw.clamp(max=LARGEST_EXPONENT).exp()
    height = height * dh.clamp(max=LARGEST_EXPONENT).exp()
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=1)


def clip(boxes, image_hw):
    height, width = image_hw
    return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def paste(probability, box, image_hw):
    """Sample a mask (28, 28) at the centre of every pixel; at least a half is inside."""
    left, top, right, bottom = box
    x = ((torch.arange(image_hw[1]) + 0.5 - left) / (right - left)) * 2 - 1
    y = ((torch.arange(image_hw[0]) + 0.5 - top) / (bottom - top)) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], dim=-1)[None]
    return functional.grid_sample(probability[None, None], grid, align_corners=False)[0, 0] >= 0.5
