"""Fitting the body to 2D joints, batched over persons. A library of torch alone: `smplify.py` makes an annotator of it."""
