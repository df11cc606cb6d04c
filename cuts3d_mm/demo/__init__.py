"""Image sets that need no download, and a page about them."""
