"""CPU seconds of each stage of labelling, for any revision: `benchmarks/pipeline.py` calls it.

PYTHONPATH=TREE python benchmarks/stage_times.py CONFIG IMAGES NUM
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labellers.registry import LABELLERS
from cuts3d_mm.labels.record import encode_instance
from cuts3d_mm.pipeline.work import use_one_thread

# Function -> stage; a name is replaced in every module that has imported it. A stage that another
# stage calls keeps its own time.
STAGES = {
    'cuts3d_mm.images.reading.read_image': 'read',
    'cuts3d_mm.images.reading.resize_rgb': 'read',
    'cuts3d_mm.algorithm.affinity.link_patches': 'affinity',
    'cuts3d_mm.algorithm.ncut.second_eigenvector': 'NCut',
    'cuts3d_mm.algorithm.cut_instances.propose': 'LocalCut',
    'cuts3d_mm.algorithm.local_cut.spatial_confidence': 'confidence',
    'cuts3d_mm.algorithm.crf.refine_to_image': 'resize and fill',
    'cuts3d_mm.algorithm.crf.refine_masks': 'CRF',
}


class Clock:
    """Adds up CPU time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = time.process_time()

    def switch(self) -> None:
        """Give the time since the last switch to the stage that runs."""
        now = time.process_time()
        self.seconds[self._running[-1] if self._running else 'other'] += now - self._since
        self._since = now

    def watched(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Wrap a function."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self._running.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self._running.pop()

        return call


def watch_all(clock: Clock) -> None:
    """Replace the functions of the stages."""
    for path, stage in STAGES.items():
        module, _, name = path.rpartition('.')
        function = getattr(importlib.import_module(module), name)
        watched = clock.watched(function, stage)
        for other in list(sys.modules.values()):
            if getattr(other, name, None) is function:
                setattr(other, name, watched)


def main() -> None:
    """Label images in this process and print the seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config')
    parser.add_argument('folder', type=Path, metavar='IMAGES')
    parser.add_argument('num', type=int)
    args = parser.parse_args()
    folder, num = args.folder, args.num
    generator = LABELLERS.build(Config.fromfile(args.config).model)
    use_one_thread()
    clock = Clock()
    watch_all(clock)
    similarity = getattr(generator.features, 'similarity', 'cosine')
    generator.features = clock.watched(generator.features, 'features')
    generator.features.similarity = similarity
    if generator.depth is not None:
        generator.depth = clock.watched(generator.depth, 'depth')
    encode = clock.watched(encode_instance, 'encode')
    from cuts3d_mm.images import reading

    names = list_images(folder).names[:num]
    for index, name in enumerate([*names[:1], *names]):
        if index == 1:  # the first image compiles
            clock.switch()
            clock.seconds.clear()
        image = reading.NamedImage(name, reading.read_image(folder / name))
        for instance in generator.predict_batch([image])[0]:
            encode(instance.mask, instance.confidence, instance.score)
    clock.switch()
    print(json.dumps({**clock.seconds, 'sum': sum(clock.seconds.values())}))


if __name__ == '__main__':
    main()
