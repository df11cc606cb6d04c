"""Images in, labels out."""
