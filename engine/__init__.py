"""The annotation engine as a library; `jobs/` holds its entry points."""
