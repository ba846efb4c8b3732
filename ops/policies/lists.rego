# What integrator.rego goes by, tenant by tenant.
package soma.policy.lists

# Domains that never lead, e.g. {"*": set(), "acme": {"action"}}; "*" is every tenant.
never := {"*": set()}

# What a leader's weight must at least be, e.g. {"acme": 0.4}.
least := {}

# Who leads instead of whom, e.g. {"acme": {"action": "state"}}.
instead := {}
