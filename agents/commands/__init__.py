"""The verbs of `soma`, one module each."""
