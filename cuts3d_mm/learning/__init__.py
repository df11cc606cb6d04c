"""From a folder of images to a detector: label, train, report, release."""
