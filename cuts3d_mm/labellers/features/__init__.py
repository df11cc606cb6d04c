"""Features of the patches of images; each file registers its source in `FEATURES`."""
