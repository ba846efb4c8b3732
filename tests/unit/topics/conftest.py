"""Kernels compile in the first example of a test: no time limit per example says anything here."""

from hypothesis import HealthCheck, settings

settings.register_profile("topics", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("topics")
