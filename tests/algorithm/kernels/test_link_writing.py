from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm import affinity


@pytest.mark.parametrize('num_rows', [1, 15, 32, 40])
def test_compiled_and_plain_code_mirror_and_pack_alike(rng, num_rows):
    block = rng.random((num_rows, 40)) < 0.4
    results = []
    for choice in ('compiled', 'plain'):
        mirrored, words = block.copy(), np.zeros((8, 40), np.uint16)
        for kernel, arguments in (
            (affinity._mirror, (mirrored,)),
            (affinity._pack_columns, (mirrored.view(np.uint8), words)),
        ):
            function = kernel.plain if choice == 'plain' else kernel.compiled()
            function(*arguments)
        results.append((mirrored.tobytes(), words.tobytes()))
    assert results[0] == results[1]
    square = np.frombuffer(results[0][0], bool).reshape(block.shape)[:, :num_rows]
    assert (square == square.T).all()
