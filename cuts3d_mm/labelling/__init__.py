"""Many images in, a label store out, whatever labels one image. Resumable."""
