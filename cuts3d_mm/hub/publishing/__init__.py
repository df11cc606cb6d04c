"""A training in, a page on the Hugging Face Hub out."""
