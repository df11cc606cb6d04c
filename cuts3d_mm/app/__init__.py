"""The method in a browser."""
