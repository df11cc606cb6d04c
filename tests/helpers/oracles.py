"""Slow and obvious oracles, written from the equations and the formats of files."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import zlib
from collections.abc import Collection
from typing import Any

import networkx
import numpy as np
from scipy import ndimage
from scipy.linalg import eigh

EPSILON = 1e-5


def sharpened_affinity(features, importance):
    """Eq. 3 literally: cosines clamped at 0, raised to 1 - d, in double precision."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = np.maximum(unit.astype(np.float64) @ unit.T.astype(np.float64), 0)
    return cosines if importance is None else _sharpened(cosines, importance)


def sharpened_kernel(features, importance):
    """Eq. 3 on exp(-distance^2 / 2), in double precision."""
    points = features.astype(np.float64)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    return _sharpened(np.exp(-squared / 2), importance)


def _sharpened(similarity, importance):
    d = importance.astype(np.float64)
    pairs = np.multiply.outer(d, d)
    return np.where(similarity > 0, similarity ** (1 - pairs), 0)  # not 0^0 = 1


def spatial_importance(depth, sigma, beta):
    """Eq. 1-2 with the Gaussian summed pixel by pixel over replicated borders."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    height, width = depth.shape
    blurred = np.zeros(depth.shape)
    for dy, wy in zip(offsets, kernel, strict=True):
        for dx, wx in zip(offsets, kernel, strict=True):
            rows = np.clip(np.arange(height) + dy, 0, height - 1)
            columns = np.clip(np.arange(width) + dx, 0, width - 1)
            blurred += wy * wx * depth[rows[:, None], columns]
    difference = np.abs(blurred - depth)
    span = difference.max() - difference.min()
    return (1 - beta) * (difference - difference.min()) / span + beta


def second_eigenvector(affinity, sign='strongest'):
    """Generalized dense eigenproblem, as MaskCut solves it.

    Sign 'strongest': the largest entry is positive; 'lapack': as LAPACK leaves it, as MaskCut.
    """
    degree = np.diag(affinity.sum(axis=1))
    _, vectors = eigh(degree - affinity, degree, subset_by_index=[1, 2])
    vector = vectors[:, 0]
    if sign == 'lapack':
        return vector
    return vector if vector[np.argmax(np.abs(vector))] > 0 else -vector


def dino_positions(grid, grid_hw, offset):
    """(s_h, s_w, C) positions at every new patch, one at a time, by the cubic of Keys (1981).

    The kernel has a = -0.75; what lies outside the grid repeats its border.
    """
    resized = np.zeros((*grid_hw, grid.shape[2]))
    for row in range(grid_hw[0]):
        for column in range(grid_hw[1]):
            y, x = (
                (index + 0.5) * trained / (new + offset) - 0.5
                for index, trained, new in zip((row, column), grid.shape, grid_hw, strict=False)
            )
            for near_y in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
                for near_x in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                    inside = (
                        np.clip(near_y, 0, len(grid) - 1),
                        np.clip(near_x, 0, grid.shape[1] - 1),
                    )
                    resized[row, column] += keys(y - near_y) * keys(x - near_x) * grid[inside]
    return resized


def keys(distance, a=-0.75):
    distance = abs(distance)
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def maskcut(features, grid_hw, tau, num_cuts, sign='strongest'):
    """MaskCut's loop on the patch grid, by its published behaviour; a list of (h, w) masks.

    Everything is recomputed for every cut, rejected cuts are kept as empty masks.
    """
    painting = np.zeros(grid_hw, bool)
    masks = []
    for index in range(num_cuts):
        left = features * ~painting.ravel()[:, None]
        length = np.linalg.norm(left, axis=1, keepdims=True)
        unit = (left / np.maximum(length, 1e-12)).astype(np.float32)
        affinity = np.where(unit @ unit.T > tau, 1.0, EPSILON)
        mask = _salient_component(second_eigenvector(affinity, sign), grid_hw)
        if index > 0:
            union = (mask | masks[-1]).sum()
            iou = (mask & masks[-1]).sum() / union if union else 0
            if iou > 0.5 or mask.mean() <= 0.01:
                mask = np.zeros(grid_hw, bool)
        painting |= mask
        masks.append(mask)
    separate = []
    for mask in masks:
        for earlier in separate:
            mask = mask & ~earlier
        separate.append(mask)
    return [mask for mask in separate if mask.any()]


def _salient_component(vector, grid_hw):
    foreground = (vector > vector.mean()).reshape(grid_hw)
    seed = int(np.argmax(np.abs(vector)))
    corners = sum(int(foreground[row, column]) for row in (0, -1) for column in (0, -1))
    if corners >= 3 or not foreground.flat[seed]:
        foreground, vector = ~foreground, -vector
    seed = np.unravel_index(np.argmax(vector), grid_hw)
    labels, _ = ndimage.label(foreground)
    return labels == labels[seed]


def neighbor_pairs(points, num_neighbors):
    """Brute-force symmetric k-NN: set of (i, j) with i < j."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    pairs = set()
    for start, row in enumerate(distances):
        for end in np.argsort(row)[: min(num_neighbors, len(points) - 1)]:
            pairs.add((min(start, int(end)), max(start, int(end))))
    return pairs


def source_side(num_nodes, edges, capacities, sources, sinks):
    """Minimum cut by networkx; what the sources reach in the residual graph."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(num_nodes))
    for first, second, capacity in zip(edges.first, edges.second, capacities, strict=True):
        graph.add_edge(int(first), int(second), capacity=float(capacity))
        graph.add_edge(int(second), int(first), capacity=float(capacity))
    for node in sources:  # no capacity: infinite
        graph.add_edge('source', int(node))
    for node in sinks:
        graph.add_edge(int(node), 'sink')
    reached = {'source'}
    if len(sinks):
        flow = networkx.algorithms.flow.dinitz(graph, 'source', 'sink')
        residual = [
            (a, b)
            for a, b, data in flow.edges(data=True)
            if data['capacity'] - data['flow'] > 1e-9
        ]
        graph = networkx.DiGraph(residual)
        graph.add_node('source')
    reached |= networkx.descendants(graph, 'source')
    return np.array([node in reached for node in range(num_nodes)])


def local_cut(cloud, tau, grid_hw, capacity):
    """LocalCut on a cloud, cut by networkx."""
    short = cloud.edges.length <= tau
    edges = type(cloud.edges)(
        cloud.edges.first[short], cloud.edges.second[short], cloud.edges.length[short]
    )
    capacities = capacity(edges.length, cloud.eigenvector_steps[short], tau)
    side = source_side(len(cloud.patches), edges, capacities, cloud.sources, cloud.sinks)
    mask = np.zeros(grid_hw[0] * grid_hw[1], bool)
    mask[cloud.patches[side]] = True
    labels, _ = ndimage.label(mask.reshape(grid_hw))
    seed = np.unravel_index(cloud.patches[cloud.sources[0]], grid_hw)
    return (labels == labels[seed]).ravel()


def soft_target_loss(logits, targets, confidence):
    """Eq. 6 summed pixel by pixel in double precision, divided by the number of pixels."""
    total = 0.0
    for logit, target, weight in zip(
        logits.flatten(), targets.flatten(), confidence.flatten(), strict=True
    ):
        probability = 1 / (1 + np.exp(-float(logit)))
        cross_entropy = -target * np.log(probability) - (1 - target) * np.log(1 - probability)
        total += float(weight) * cross_entropy
    return total / logits.size


def box_iou(first, second):
    """IoU of two boxes x1, y1, x2, y2."""
    width = max(0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0, min(first[3], second[3]) - max(first[1], second[1]))
    area = (first[2] - first[0]) * (first[3] - first[1])
    other = (second[2] - second[0]) * (second[3] - second[1])
    return width * height / (area + other - width * height)


def box_head_loss(logits, labels, scores, boxes, label_boxes, drop_iou):
    """Class loss of one box stage: DropLoss, soft targets, mean over all samples."""
    total = 0.0
    for logit, label, score, box in zip(logits, labels, scores, boxes, strict=True):
        best = max((box_iou(box, other) for other in label_boxes), default=0)
        if drop_iou is not None and best <= drop_iou:
            continue
        log_softmax = logit - np.log(np.exp(logit).sum())
        foreground = score if label == 0 else 0
        total -= foreground * log_softmax[0] + (1 - foreground) * log_softmax[1]
    return total / len(labels)


def paste(target, source, existing, pasted, confidence, max_cover):
    """Copy-paste pixel by pixel: image, existing masks after, which instances are pasted."""
    image = target.astype(np.float64)
    kept = []
    for index, mask in enumerate(pasted):
        covers = [(mask & other).sum() / max(other.sum(), 1) for other in existing]
        if mask.any() and all(cover < max_cover for cover in covers):
            kept.append(index)
    height, width = target.shape[:2]
    after = existing.copy()
    for row in range(height):
        for column in range(width):
            holders = [index for index in kept if pasted[index, row, column]]
            if holders:
                alpha = max(int(confidence[index, row, column]) for index in holders) / 255
                image[row, column] = (
                    alpha * source[row, column] + (1 - alpha) * target[row, column]
                )
                after[:, row, column] = False
    return np.rint(image).astype(np.uint8), after, kept


MAX_PIXELS = 178_956_970
MAX_BYTES = 2**20


class Wrong(Exception):
    pass


def require(holds: object) -> None:
    if not holds:
        raise Wrong


def is_sound(content: bytes, needs: Collection[str]) -> bool:
    """Whether a file may be used where `confidence`, `names`, `masks` or `areas` are needed."""
    try:
        document = json.loads(content.decode('utf-8-sig'), object_pairs_hook=_unique)
        _check(document, needs)
    except (Wrong, ValueError, KeyError, TypeError, RecursionError, zlib.error, AttributeError):
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require(len(dict(pairs)) == len(pairs))
    return dict(pairs)


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _number(value: Any) -> Any:
    """A number, also where it is written as text or as a float without a fraction."""
    with contextlib.suppress(ValueError, OverflowError):
        value = float(value) if type(value) is str else value
        return int(value) if type(value) is float and value == int(value) else value
    return value


def _is_number(value: Any) -> bool:
    value = _number(value)
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= 2**24


def _is_id(value: Any) -> bool:
    value = _number(value)
    return _is_int(value, -(2**53), 2**53) or (type(value) is str and bool(value))


def _check(document: Any, needs: Collection[str]) -> None:
    images = {}
    for image in document['images']:
        require(_is_id(image['id']) and _number(image['id']) not in images)
        require(type(image['file_name']) is str and image['file_name'])
        height, width = _number(image['height']), _number(image['width'])
        require(_is_int(height, 1, MAX_PIXELS) and _is_int(width, 1, MAX_PIXELS))
        require(height * width <= MAX_PIXELS)
        images[_number(image['id'])] = (height, width), []
    names = [image['file_name'] for image in document['images']]
    require('names' not in needs or len(set(names)) == len(names))
    ids = [_number(one['id']) for one in document['annotations'] if 'id' in one]
    require(len(set(ids)) == len(ids) and all(map(_is_id, ids)))
    known = [one for one in document['annotations'] if _number(one['image_id']) in images]
    require(known or not document['annotations'])
    for one in document['annotations']:
        require(_is_id(one['image_id']))
        _check_annotation(one)
        _check_confidence(one, needs)
    for one in known:
        images[_number(one['image_id'])][1].append(one)
    masks = [one for one in known if one.get('segmentation')]
    require(masks or 'masks' not in needs or not known)
    for image_hw, found in images.values():
        masks = [one['segmentation'] for one in found if one.get('segmentation')]
        sizes = {tuple(map(_number, mask['size'])) for mask in masks if type(mask) is dict}
        require(sizes <= {image_hw} or sizes == {image_hw[::-1]})
        for mask in masks:
            _check_mask(mask, image_hw)


def _check_annotation(one: Any) -> None:
    """A box or a mask, and figures in their ranges; what is optional may be null."""
    box = one.get('bbox') or [0] * 4
    require(len(box) == 4 and all(map(_is_number, box)))
    require(_number(one.get('iscrowd') or 0) in (0, 1))
    score, area = _number(one.get('score') or 0), _number(one.get('area') or 0)
    require(_is_number(score) and 0 <= score <= 1)
    require(type(area) in (int, float) and area < math.inf)


def _check_confidence(one: Any, needs: Collection[str]) -> None:
    stored = one.get('confidence')
    if stored is None or 'confidence' not in needs:
        return
    (rows, columns), (left, top, width, height) = stored['grid_hw'], stored['crop_xywh']
    require(all(_is_int(v, 0, 2**15 - 1) for v in (rows, columns, left, top, width, height)))
    require(rows and columns and rows * columns <= 2**22)
    require(left + width <= columns and top + height <= rows)
    unpacked = zlib.decompress(base64.b64decode(stored['values'], validate=True))
    require(len(unpacked) == width * height)
    require(_is_int(stored.get('lower_bound', 0), 0, 255))


def _check_mask(segmentation: Any, image_hw: tuple[int, int]) -> None:
    pixels = image_hw[0] * image_hw[1]
    if type(segmentation) is list:
        is_flat = type(segmentation[0]) is not list
        for polygon in [segmentation] if is_flat else segmentation:
            if polygon and type(polygon[0]) is list:
                require(all(len(point) == 2 for point in polygon))
                polygon = [one for point in polygon for one in point]
            require(len(polygon) % 2 == 0 and all(map(_is_number, polygon)))
        return
    counts = segmentation['counts']
    runs = _unpack(counts) if type(counts) is str else counts
    require(type(runs) is list and all(_is_int(run, 0, pixels) for run in runs))
    require(sum(runs) == pixels)


def _unpack(code: str) -> list[int]:
    runs: list[int] = []
    number = shift = 0
    for character in code:
        digit = ord(character) - 48
        require(0 <= digit < 64)
        number |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number = shift = 0
    require(shift == 0)
    return runs


def detectron2_positives(sampled, deltas, labels, image_hw, thresholds, stds):
    """Positive boxes of cascade stages 2, 3, ...: every sampled box is refined and kept.

    Args:
        sampled: (N, 4) boxes of the first stage, labels included.
        deltas: a function of a stage and its (N, 4) boxes that predicts (N, 4) deltas.
        labels: (M, 4) boxes of the labels.
        image_hw: size to clip boxes to.
        thresholds: smallest IoU of a positive, for each of these stages.
        stds: (4,) scales of the deltas, for each stage that refines.
    """
    boxes, counts = np.array(sampled, np.float64), []
    for stage, (threshold, std) in enumerate(zip(thresholds, stds, strict=True)):
        moved = []
        for box, delta in zip(boxes, deltas(stage, boxes) * np.array(std), strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            x = (box[0] + box[2]) / 2 + delta[0] * width
            y = (box[1] + box[3]) / 2 + delta[1] * height
            half_w, half_h = width * math.exp(delta[2]) / 2, height * math.exp(delta[3]) / 2
            moved.append([x - half_w, y - half_h, x + half_w, y + half_h])
        boxes = np.clip(moved, 0, [image_hw[1], image_hw[0]] * 2)
        best = [max(box_iou(box, label) for label in labels) for box in boxes]
        counts.append(sum(value >= threshold for value in best))
    return counts


def cutler_compared_boxes(matched):
    """What CutLER's DropLoss compares with, of the label boxes matched to its samples in order."""
    rows = [tuple(row) for row in matched]
    return rows[: len(set(rows[:100]))]
