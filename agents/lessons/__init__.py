"""Brings frames to the learner, of the tenants that want to learn."""
