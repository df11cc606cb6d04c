"""Running detectors: configs to runners, and hooks."""
