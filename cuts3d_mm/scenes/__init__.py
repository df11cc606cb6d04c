"""Render scenes with exact masks and depth."""
