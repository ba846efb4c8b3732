# What integrator.rego goes by. "*" is every tenant.
package soma.policy.lists

# Domains that never lead, e.g. {"*": set(), "acme": {"action"}}.
never := {"*": set()}

# What a leader's weight must at least be; a tenant's own row replaces that of "*".
least := {"*": 0}

# Who leads instead of whom, e.g. {"acme": {"action": "state"}}.
instead := {}
