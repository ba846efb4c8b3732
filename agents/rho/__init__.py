"""ρ: density matrices that are committed by compare-and-set, in PostgreSQL and then in Redis.

What must hold: a version is committed once and whole; nothing is read that wasn't committed, and no
half of it. `law.py` says which matrices are taken, `envelope.py` how they are kept as bytes,
`matrices.py` commits and reads, and says what a reader may see.
"""
