"""Contracts between the stages: names, records and manifests. Imports neither torch nor ray."""
