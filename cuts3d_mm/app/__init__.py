"""Pages in a browser: cut and detect, and look through labels."""
