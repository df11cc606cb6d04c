"""Detectors at work on images."""

from cuts3d_mm.inference.detector_labeller import DetectorLabeller
from cuts3d_mm.inference.inferencer import CutS3DInferencer

__all__ = ['CutS3DInferencer', 'DetectorLabeller']
