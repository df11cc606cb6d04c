"""Convert the official annotations of detection data sets to class-agnostic COCO JSON."""
