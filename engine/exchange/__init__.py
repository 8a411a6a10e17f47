"""Releases out to the formats of the field, and those formats in as releases."""
