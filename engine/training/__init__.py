"""The one loop Ray Train runs for f and for g, and its checkpoints."""
