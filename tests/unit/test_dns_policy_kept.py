from hafleet.core.settings import Settings
from tests.fakes.dns import Actor, Stage, dns_settings, iid

MULTI = dns_settings(policy="multivalue")
LONGER = dns_settings(policy="multivalue", ttl=60)


def start(stage: Stage, number: int, settings: Settings) -> Actor:
    actor = stage.registrar(number, settings)
    actor.settled()
    return actor


def policies(stage: Stage) -> dict[str, tuple[int | None, bool]]:
    return {id_: (leaf.weight, leaf.multivalue) for id_, leaf in stage.leaves().items()}


def test_a_node_among_others_keeps_their_policy_and_says_so() -> None:
    stage = Stage()
    start(stage, 1, dns_settings())
    start(stage, 2, dns_settings())
    before = stage.engine.calls["ChangeResourceRecordSets"]
    changed = start(stage, 1, MULTI)
    report = changed.once()
    assert policies(stage) == {iid(1): (100, False), iid(2): (100, False)}
    assert stage.engine.calls["ChangeResourceRecordSets"] == before
    first = start(stage, 1, MULTI).registrar.plan(changed.situation())
    assert first.steps == () and len(first.problems) == 1
    assert "are weighted, the settings say multivalue" in first.problems[0] and "dns.policy" in first.problems[0]
    assert report.registered


def test_policy_and_ttl_are_told_together() -> None:
    stage = Stage()
    start(stage, 1, dns_settings())
    start(stage, 2, dns_settings())
    actor = stage.registrar(1, LONGER)
    assert [text.split(":")[0] for text in actor.once().problems] == ["dns.ttl", "dns.policy"]


def test_a_node_alone_takes_the_new_policy() -> None:
    stage = Stage()
    start(stage, 1, dns_settings())
    start(stage, 1, LONGER)
    assert policies(stage) == {iid(1): (None, True)}
    assert stage.leaves()[iid(1)].ttl == 60


def test_once_all_have_been_turned_over_the_nodes_fall_silent() -> None:
    stage = Stage()
    start(stage, 1, MULTI)
    start(stage, 2, MULTI)
    for number in (1, 2):
        report = start(stage, number, MULTI).once()
        assert report.problems == ()
