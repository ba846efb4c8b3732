"""Policies in Rego that may veto a new leader: `policies` asks them, embedded or over HTTP.

`rego` compiles a folder of them and tries it out, `apart` loads regopy. Processors, commands and
the HTTP API use it alike. `access` asks whether the HTTP API may do what it is asked to.
"""

ENTRY = "soma/policy/integrator"  # what is asked
ACCESS = "soma/policy/api"  # and by the HTTP API
