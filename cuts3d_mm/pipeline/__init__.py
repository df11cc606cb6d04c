"""Label many images into a label store, resumable at any moment."""
