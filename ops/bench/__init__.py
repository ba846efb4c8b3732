"""Benchmarks: this engine beside its peers, on one broker in one run. The verbs are `soma bench …`.

Every figure is taken from outside what is measured: from topics, /proc and /metrics. The commands
write RESULTS.md themselves.
"""
