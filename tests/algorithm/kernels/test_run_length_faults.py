from __future__ import annotations

import numpy as np
from drawn import disc
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm.run_length_faults import SOUND
from cuts3d_mm.labels import run_length


def test_compiled_and_plain_code_find_the_same_faults(rng):
    code = coco_mask.encode(np.asfortranarray(disc((9, 13), 7).astype(np.uint8)))['counts']
    compiled, plain = run_length._find_fault.compiled(), run_length._find_fault.plain
    codes = [np.frombuffer(code, np.uint8)]
    for _ in range(300):
        damaged = codes[0].copy()
        damaged[rng.integers(len(damaged), size=2)] = rng.integers(40, 120, 2)
        codes.append(damaged[: rng.integers(1, len(damaged) + 1)])
    faults = [(compiled(code, 468), plain(code, 468)) for code in codes]
    assert all(one == other for one, other in faults)
    assert faults[0][0] == SOUND and len({one for one, _ in faults}) > 3
