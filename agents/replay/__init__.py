"""Replay: the past of topics as a tool, by commands on a topic.

`agent.py` is the processor that takes commands and says which can't be; `service.py` runs the jobs
that it has accepted, beside it. What a job does is its mode's: `modes.py` says what one is.
"""
