"""The past of a processor's partition, read and folded outside a worker. Nothing is ever sent.

`log` reads the source as it came, `refold` folds it, `states` says from where and through which
epochs, `snapshots` keeps states for longer than the source, `rows` compares them.
"""
