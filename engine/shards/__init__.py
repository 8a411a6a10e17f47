"""Samples to WebDataset tars and back, with manifests that say what each byte is."""
