"""Dead letters: what they say, what became of them, and the way back to their topic.

Used by `soma dlq`, the HTTP API and replays; `law.py` says which letters may be redriven.
"""
