"""The 3D human mesh estimators, one a file, behind `engine.models.estimator`."""
