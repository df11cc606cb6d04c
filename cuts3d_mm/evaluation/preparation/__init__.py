"""Official annotation files of detection data sets in, class-agnostic COCO JSON out."""
