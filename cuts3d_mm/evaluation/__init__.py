"""How good labels and detections are."""
