"""Which jobs keep others from running."""

from dataclasses import replace

from agents.replay.command import Command
from agents.replay.rivals import rivalry

REBUILD = Command(mode="rebuild", target="predictors")
APPLY = replace(REBUILD, apply=True)
REDRIVE = Command(mode="redrive", source="cog.observations")


def test_a_redrive_and_a_state_put_in_place_meet_where_its_processor_reads_that_topic() -> None:
    said = rivalry(APPLY, REDRIVE)
    assert said == "cog.observations, which predictors reads, is being redriven"
    said = rivalry(REDRIVE, APPLY)
    assert said == "predictors, which reads cog.observations, is being rebuilt"
    # A rebuild that only compares changes nothing; another processor reads another topic.
    for other in (REBUILD, replace(APPLY, target="integrator"), replace(APPLY, dry_run=True)):
        assert not rivalry(REDRIVE, other) and not rivalry(other, REDRIVE)


def test_two_of_one_kind_meet_and_a_rehearsal_meets_nobody() -> None:
    assert rivalry(REBUILD, APPLY) == "predictors is being rebuilt"
    assert rivalry(REDRIVE, REDRIVE) == "cog.observations is being redriven"
    for one in (REBUILD, APPLY, REDRIVE):
        for dry in (replace(one, dry_run=True), Command(mode="republish", source=REDRIVE.source)):
            assert not rivalry(one, dry) and not rivalry(dry, one)
    assert not rivalry(APPLY, replace(APPLY, target="integrator"))
    assert not rivalry(REDRIVE, replace(REDRIVE, source="cog.global.frame"))
