"""The integrator: which of a tenant's domains to believe, from how wrong their predictions were.

Files, in reading order: `agent` declares the processor; `rule` is the law as formulas; `round` one
tenant's round; `fold` the loop over a batch; `settings`, `state` and `rows` hold what it remembers.
"""
