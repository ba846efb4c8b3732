"""Segments of a tenant's time as memories."""
