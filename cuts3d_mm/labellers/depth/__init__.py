"""Depth of images, from files or networks; each file registers its source in `DEPTH`."""
