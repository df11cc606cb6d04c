"""Build runners and detectors from configs, and train them."""
