"""The peers of the pipeline benchmark, one module each; all do the job of `law.py`.

A peer is a program of its own: it gets one `Job`, and prints one line of JSON with its rate.
"""
