"""Topics as tables of PostgreSQL: which, what of them is kept, and how a record becomes a row.

For whoever writes them: the projections, as records come, and the job that makes one anew.
"""
