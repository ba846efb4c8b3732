"""Canaries: a setting tried on some tenants, compared with others, and taken back when it harms."""
