# Who may lead: asked when a tenant's leader would change. The lists to edit are in lists.rego.
#
# input.tenant                  whose stream it is
# input.candidate.leader        the domain that the weights elect
# input.candidate.weights       domain -> weight, of the domains that take part; six decimals
#
# Answer: allow (boolean, always), leader (a domain that leads instead), rationale (why, in words).
package soma.policy.integrator

import data.soma.policy.lists

default allow := true

allow := false if rationale

leader := replacement(input, lists.instead)

rationale := sprintf("%s may not lead %s", [input.candidate.leader, input.tenant]) if {
	banned(input, lists.never)
} else := sprintf("%s is too light to lead %s", [input.candidate.leader, input.tenant]) if {
	weak(input, lists.least)
}

# `never`: tenant (or "*") -> set of domains that never lead.
banned(asked, never) if asked.candidate.leader in never[asked.tenant]

banned(asked, never) if asked.candidate.leader in never["*"]

# `least`: tenant -> weight that a leader needs.
weak(asked, least) if asked.candidate.weights[asked.candidate.leader] < least[asked.tenant]

# `instead`: tenant -> domain -> the domain that leads instead, if it takes part.
replacement(asked, instead) := other if {
	other := instead[asked.tenant][asked.candidate.leader]
	asked.candidate.weights[other]
}
