"""Shards to batches: decode once an image, crop, augment, build targets, mix, resume."""
