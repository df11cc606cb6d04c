"""Score labels and detections against annotations."""
