"""The parametric body and the pose prior: SMPL and VPoser from the user's files, or the open ones."""
