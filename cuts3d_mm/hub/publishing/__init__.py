"""Publish a trained detector and its labels on the Hugging Face Hub."""
