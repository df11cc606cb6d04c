"""Detectors at work on images."""

from cuts3d_mm.inference.detector_labeller import DetectorLabeller

__all__ = ['DetectorLabeller']
