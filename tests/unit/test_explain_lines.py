"""``hafleet explain``: what it says of one instance."""

from dataclasses import replace

from hafleet.core.explain import explain
from hafleet.core.model import Group, Groups, Unknown, Worker, World
from tests.fakes.worlds import NODE, Story, fleet, group, iid, instance, make_settings


def told(story: Story, name: str, *groups: Group, worker: Worker | Unknown | None = None) -> list[str]:
    found = {g.name: g for g in groups}
    seen = Groups(found, 1.0) if groups else Unknown("no route")
    world = World(story.at, NODE, seen, worker or story.worker, Unknown(""))
    return list(explain(story.last, world, name))


def test_a_serving_instance() -> None:
    story = Story()
    blue = fleet("blue", [1])
    story.see(blue)
    story.obey(sessions={iid(1): 4})
    assert told(story, iid(1), blue) == [
        f"site/{iid(1)}: in rotation with weight 100, 10.0.0.1 port 80, from group blue",
        f"site/{iid(1)}: HAProxy has it up, weight 100, 4 sessions",
        "group blue lists it as InService, address 10.0.0.1, zone eu-west-1a",
    ]


def test_what_haproxy_says() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    assert told(story, iid(1))[1] == f"site/{iid(1)}: HAProxy could not be asked: not looked at"
    story.obey(down=[iid(1)])
    assert "down by its check" in told(story, iid(1))[1]
    assert isinstance(story.worker, Worker)
    server = story.worker.servers["site", iid(1)]
    for changed, word in ((replace(server, maint=True), "in maintenance"), (replace(server, drain=True), "draining")):
        worker = replace(story.worker, servers={("site", iid(1)): changed})
        assert word in told(story, iid(1), worker=worker)[1]
    assert "does not have it yet" in told(story, iid(1), worker=replace(story.worker, servers={}))[1]


def test_a_held_instance_says_how_long_it_is_missing() -> None:
    story = Story(make_settings(backend={"port": [80, 81]}))
    story.see(fleet("blue", [1, 2]))
    half = fleet("blue", [1], desired=2)
    story.see(half)
    story.see(half)
    lines = told(story, iid(2), half)
    assert told(story, iid(1), half) != lines
    assert sum("held: group blue lists 1 of 2" in line for line in lines) == 2
    assert lines[-1] == f"site/{iid(2)}-81: missing from 2 reads in a row, for 10 s"


def test_a_terminated_instance() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    leaving = group("blue", instance(1), instance(2, "Terminating", address=None, zone=""))
    story.see(leaving)
    lines = told(story, iid(2), leaving)
    assert "draining, no new sessions" in lines[0]
    assert lines[-2:] == [
        "group blue lists it as Terminating, no address, zone not known",
        "it was seen to terminate 0 s ago, and does not come back",
    ]


def test_a_static_server_by_its_address_or_name() -> None:
    story = Story(make_settings({"static": ["10.0.9.10"]}))
    story.blind()
    lines = told(story, "10.0.9.10")
    assert lines == told(story, "static-10.0.9.10")
    assert "from the settings" in lines[0]
    assert lines[-1] == "AWS could not be read (no route): members stay as they were"


def test_before_anything_was_decided_the_memory_speaks() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.last = replace(story.last, desired=Unknown("frozen"))
    assert "in rotation" in told(story, iid(1))[0]


def test_a_stranger() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    assert told(story, iid(99)) == []
