"""Convert weights of other code bases to our layout, and back."""
