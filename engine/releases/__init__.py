"""The release store: commit, open, verify."""
