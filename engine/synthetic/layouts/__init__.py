"""Synthetic files in the layouts of the published datasets, shaped like the real ones."""
