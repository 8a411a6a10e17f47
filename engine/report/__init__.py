"""Mesh rendering, overlays, plots and the HTML report."""
