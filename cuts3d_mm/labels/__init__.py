"""What passes between the two halves: records, their store, COCO JSON."""
