"""Group the instances of labels that look alike: `cuts3d group`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS
from cuts3d_mm.algorithm.grouping import group_vectors
from cuts3d_mm.arrays import Float
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, read_labelled_image
from cuts3d_mm.labellers.embedding import Embedder
from cuts3d_mm.labels.naming import (
    GROUPS_FILE,
    VECTORS_FILE,
    LabelsDigest,
    StoredGroups,
)
from cuts3d_mm.labels.record import (
    ImageRecord,
    decode_confidence,
    decode_mask,
)


@dataclass(frozen=True)
class Grouped:
    """Groups of labels, and why instances of some images have no group."""

    groups: StoredGroups
    left_out: tuple[str, ...]  # a reason for each image


def group_labels(
    records: Iterable[ImageRecord],
    images: Place,
    out: Path,
    num_groups: int | None = None,
    seed: int = 0,
    embedder: Embedder | None = None,
) -> Grouped:
    """Group all instances of labels, and write `groups.json` and the vectors.

    Args:
        records: labels, with embeddings unless there is an embedder.
        images: folder that was labelled.
        out: folder to write; it must not hold the groups of an earlier call, or their names.
        num_groups: number of groups; None: the usual one, see `group_vectors`.
        seed: seed for what is drawn at random.
        embedder: describes the instances in place of the embeddings of the labels.

    Raises:
        ValueError: `out` holds files, or there are too few instances with a vector.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(
            f'OUT must be a new or an empty folder, {out} holds files; write to another folder'
        )
    digest, reasons, vectors, found = LabelsDigest(), list[str](), list[bytes | None](), []
    for record in records:
        digest.add(record)
        if embedder is not None and record.instances:
            try:
                record = embed_record(record, images, embedder)
            except ImageFailure as failure:
                reasons.append(f'{record.name}: {failure}')
        vectors += [one.embedding for one in record.instances]
        found.append((record.name, len(record.instances)))
    known = np.array([one is not None for one in vectors], bool)
    if not len(known):
        raise ValueError('labels must have an instance to group, they have none')
    if not known.any():
        raise ValueError(
            f'labels must have instances with an embedding, {len(known)} have none'
            f'{"; " + reasons[0] if reasons else ""}; make them with cuts3d generate --embed, or '
            'give cuts3d group --features CONFIG'
        )
    stacked = _stack([one for one in vectors if one is not None])
    groups = group_vectors(stacked, num_groups, seed)
    group, distance = np.full(len(known), -1, np.int64), np.zeros(len(known), np.float32)
    is_sure = np.zeros(len(known), bool)
    reduced = np.zeros((len(known), groups.vectors.shape[1]), np.float32)
    group[known], distance[known] = groups.group, groups.distance
    is_sure[known], reduced[known] = groups.is_sure, groups.vectors
    stored = StoredGroups(tuple(found), group, distance, is_sure, str(digest))
    out.mkdir(parents=True, exist_ok=True)
    with open_atomically(out / VECTORS_FILE) as file:
        np.save(file, reduced)
    stored.write(out / GROUPS_FILE)
    return Grouped(stored, tuple(reasons))


def _stack(vectors: list[bytes]) -> Float:
    lengths = {len(one) for one in vectors}
    if len(lengths) > 1:
        raise ValueError(
            f'embeddings must have one length, got {sorted(n // 2 for n in lengths)}; describe '
            'all again with --features CONFIG'
        )
    return np.stack([np.frombuffer(one, '<f2') for one in vectors]).astype(np.float32)


def embed_record(record: ImageRecord, images: Place, embedder: Embedder) -> ImageRecord:
    """Describe the instances of an image.

    Raises:
        ImageFailure: the image cannot be read, or has another size than its labels.
    """
    pixels = read_labelled_image(images, record)
    masks = [decode_mask(one, record.image_hw) for one in record.instances]
    maps: list[Float | None] = [
        None
        if crop is None
        else np.asarray(decode_confidence(crop) / CONFIDENCE_STEPS, np.float32)
        for crop in (one.confidence for one in record.instances)
    ]
    vectors = embedder.describe(pixels, masks, maps)
    described = [
        replace(one, embedding=vector.astype('<f2').tobytes())
        for one, vector in zip(record.instances, vectors, strict=True)
    ]
    return replace(record, instances=tuple(described))
