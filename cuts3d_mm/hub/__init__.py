"""The Hugging Face Hub and the web: find files, download and publish."""
