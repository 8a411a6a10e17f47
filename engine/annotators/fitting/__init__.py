"""Fitting the body to 2D joints, batched over persons. A library of torch alone: `smplify.py` makes an annotator of it.

`fit.py` fits, `problem.py` says what it is given and gives, `config.py` its settings. Nothing is imported here: a plan needs the settings
alone, and no torch.
"""
