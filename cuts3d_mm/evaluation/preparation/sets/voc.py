"""Pascal VOC 2007."""

from __future__ import annotations

from cuts3d_mm.evaluation.preparation.voc import voc_set

SET = voc_set('Pascal VOC 2007', 'VOC2007', ('trainval', 'test'), 9963)
