"""Under which subjects our schemas are to be found."""

from topics.catalogue import CATALOGUE
from topics.schemas import Schemas
from topics.subjects import Place, places

KNOWN = Schemas()


def test_each_version_is_under_its_name_and_under_its_topics() -> None:
    found = places(KNOWN, lambda name: f"ns.{name}")
    texts = list(map(str, found))
    assert len(set(texts)) == len(texts)
    assert "control_tick.v1 under soma.control_tick" in texts
    assert "observation.v1 under ns.cog.observations-value" in texts
    assert {place.key for place in found if place.subject == f"soma.{place.key[0]}"} == set(
        KNOWN.all()
    )
    known = set(KNOWN.names())  # a test before this may have brought a package's topics
    topics = {place.subject for place in found} - {f"soma.{name}" for name in KNOWN.names()}
    assert topics == {f"ns.{name}-value" for name, one in CATALOGUE.items() if one.schema in known}


def test_older_versions_come_first() -> None:
    found = places(KNOWN, str)
    for subject in {place.subject for place in found}:
        versions = [place.key[1] for place in found if place.subject == subject]
        assert versions == list(range(1, len(versions) + 1))
    assert found[0] == Place(f"soma.{KNOWN.all()[0][0]}", KNOWN.all()[0])
