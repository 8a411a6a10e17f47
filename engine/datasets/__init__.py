"""Raw dataset layouts on disk to Samples: one module a dataset, found by name."""
