"""Store and read labels: records of images, label stores, COCO JSON."""
