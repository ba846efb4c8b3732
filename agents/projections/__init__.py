"""Projections: what topics say, as readers want it, in stores. Each can be dropped and made anew.

A projection never holds up a processor: it reads committed records by its own consumer group, in a
thread of its own, and keeps its position back until the store has answered.
"""
