"""A static site about a release: its card, its quality, every person on it, and what changed from another release."""
