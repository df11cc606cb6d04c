"""Weights of other code bases in our layout, and back."""
