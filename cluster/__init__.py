"""Everything that makes machines: images, Ray cluster configs, a local cluster."""
