"""Find and read images: files, folders, lists, videos and webcams."""
