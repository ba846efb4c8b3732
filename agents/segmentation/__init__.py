"""Segmentation: where the errors of a domain, or a tenant's leader, change."""
