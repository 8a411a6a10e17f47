"""Backbone, Pose2Pose and its losses."""
