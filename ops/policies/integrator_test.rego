# Without `with`: the embedded Rego (rego-cpp 1.5) crashes on it. Rules are tested as functions.
package soma.policy.integrator_test

import data.soma.policy.integrator

asked(tenant, leader) := {
	"tenant": tenant,
	"candidate": {"leader": leader, "weights": {"state": 0.5, "agent": 0.3, "action": 0.2}},
}

test_a_banned_domain_is_denied_to_its_tenant if {
	integrator.banned(asked("t", "agent"), {"*": set(), "t": {"agent"}})
}

test_a_ban_leaves_other_tenants_and_domains_alone if {
	not integrator.banned(asked("u", "agent"), {"*": set(), "t": {"agent"}})
	not integrator.banned(asked("t", "state"), {"*": set(), "t": {"agent"}})
}

test_a_ban_for_all_reaches_every_tenant if {
	integrator.banned(asked("t", "agent"), {"*": {"agent"}})
	integrator.banned(asked("u", "agent"), {"*": {"agent"}, "u": {"state"}})
}

test_a_light_leader_is_weak if {
	integrator.weak(asked("t", "agent"), {"t": 0.4})
	not integrator.weak(asked("t", "state"), {"t": 0.4})
	not integrator.weak(asked("t", "state"), {"t": 0.5})
}

test_a_threshold_is_of_its_tenant_alone if {
	not integrator.weak(asked("u", "action"), {"t": 0.9})
	integrator.weak(asked("t", "state"), {"t": 0.9, "u": 0})
}

test_one_domain_leads_instead_of_another if {
	integrator.replacement(asked("t", "agent"), {"t": {"agent": "state"}}) == "state"
	not integrator.replacement(asked("u", "agent"), {"t": {"agent": "state"}})
	not integrator.replacement(asked("t", "action"), {"t": {"agent": "state"}})
}

test_a_domain_that_takes_no_part_leads_nobody if {
	not integrator.replacement(asked("t", "agent"), {"t": {"agent": "dream"}})
}
