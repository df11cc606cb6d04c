"""Clipart, of the cross-domain sets."""

from __future__ import annotations

from cuts3d_mm.evaluation.preparation.voc import voc_set

SET = voc_set('Clipart', 'clipart', ('train', 'test'), 1000)
