"""Policies in Rego that may veto a new leader: `policies` asks them, embedded or over HTTP.

`rego` compiles a folder of them and tries it out, `apart` loads regopy. Processors, commands and
the HTTP API use it alike.
"""

ENTRY = "soma/policy/integrator"  # what is asked
