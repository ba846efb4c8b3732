"""Snapshots of all processors' states, day by day: a service of a worker."""
