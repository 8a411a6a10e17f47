"""The numbers that decide what a row says of a prediction; part of every plan, and read without torch."""

ROWS_VERSION = 1
"""Raised whenever the same predictions would give other rows."""
VISIBLE_THRESHOLD = 0.05
"""A joint counts as met within this share of the square root of the box area."""
SCORE_SCALE = 0.05
