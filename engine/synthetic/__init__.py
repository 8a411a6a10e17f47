"""A small world with known 3D truth, written in the raw layouts of real datasets."""
