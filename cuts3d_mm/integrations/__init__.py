"""Detectors inside other tools; a tool is imported when one of its functions is called."""
