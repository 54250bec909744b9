"""One backend over several passes: who enters, who leaves, and how."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from hafleet.core.cfgtext import parse
from hafleet.core.membership import FORCED, decide, from_installed, question
from hafleet.core.model import Groups, Memory, Node, Unknown, World
from tests.fakes.worlds import NODE, Story, fleet, group, ids, iid, instance, make_settings

WEB_TO_SHOP = [{"name": "web", "bind": ":80", "default_backend": "shop"}]


def test_only_in_service_instances_with_an_address_are_members() -> None:
    story = Story()
    story.see(
        group("blue", instance(1), instance(2, "Pending"), instance(3, "Standby"), instance(4, "Warmed:Stopped")),
    )
    assert story.names() == ids(1)
    assert {v.instance: v.outcome for v in story.last.verdicts} == dict.fromkeys(ids(2, 3, 4), "absent")
    assert story.held() == []


def test_scale_out_is_taken_at_once_and_an_unchanged_member_stays_the_same_object() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    first = story.members()[0]
    story.see(fleet("blue", [1, 2]))
    assert story.names() == ids(1, 2)
    assert story.members()[0] is first


def test_a_changed_address_is_taken_in_place() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.see(group("blue", instance(1, address=IPv4Address("10.1.1.1"))))
    assert [str(m.address) for m in story.members()] == ["10.1.1.1"]


def test_several_ports_make_several_servers_named_by_port() -> None:
    story = Story(make_settings({"asg": "blue"}, backend={"port": [8080, 8081]}))
    story.see(fleet("blue", [1]))
    assert [(m.name, m.port, m.instance) for m in story.members()] == [
        (f"{iid(1)}-8080", 8080, iid(1)),
        (f"{iid(1)}-8081", 8081, iid(1)),
    ]


def test_a_source_may_have_a_port_of_its_own() -> None:
    story = Story(make_settings({"asg": "blue", "port": 9000}, {"asg": "green"}, backend={"port": 8080}))
    story.see(fleet("blue", [1]), fleet("green", [2]))
    assert [m.port for m in story.members()] == [9000, 8080]


def test_groups_are_found_by_tag_when_they_carry_every_pair() -> None:
    story = Story(make_settings({"asg_tag": {"app": "site", "env": "prod"}}))
    story.see(
        group("a", instance(1), app="site", env="prod"),
        group("b", instance(2), app="site", env="test"),
        group("c", instance(3), app="site", env="prod"),
    )
    assert story.names() == ids(1, 3)


def test_an_instance_of_two_sources_belongs_to_the_first() -> None:
    settings = make_settings({"asg": "blue", "port": 9000}, {"asg_tag": {"app": "site"}}, backend={"port": 80})
    story = Story(settings)
    story.see(group("blue", instance(1), app="site"), group("other", instance(1), instance(2), app="site"))
    assert [(m.name, m.port) for m in story.members()] == [(iid(1), 9000), (iid(2), 80)]


def test_static_servers_are_members_without_aws() -> None:
    story = Story(make_settings({"static": ["10.0.9.10", "fd00::1", "10.0.9.10"]}))
    story.blind()
    assert [(m.name, m.instance) for m in story.members()] == [
        ("static-10.0.9.10", "10.0.9.10"),
        ("static-fd00--1", "fd00::1"),
    ]


# --- leaving on evidence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["Terminating", "Terminating:Wait", "Terminated", "Standby", "Detaching", "EnteringStandby"]
)
def test_evidence_drains_at_once_whatever_the_number(state: str) -> None:
    story = Story()
    story.see(fleet("blue", range(10)))
    story.see(group("blue", *(instance(n, state if n < 9 else "InService") for n in range(10))))
    assert story.names() == ids(9)
    assert story.drained() == ids(*range(9))
    assert story.held() == []
    assert all(m.rendered_weight == 0 and m.weight == 100 for m in story.members() if m.draining)


def test_a_drain_ends_by_time_and_goes_on_when_the_instance_vanishes() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1), instance(2, "Terminating")))
    story.see(fleet("blue", [1]))
    story.see(fleet("blue", [1]))
    assert story.drained() == ids(2)
    story.see(fleet("blue", [1]))  # 30 s after the drain began
    assert [m.name for m in story.members()] == ids(1)
    assert story.memory.draining == {}


def test_a_drain_goes_on_while_aws_is_away() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1), instance(2, "Terminating")))
    story.blind(step=29.0)
    assert story.drained() == ids(2)
    story.blind(step=1.0)
    assert [m.name for m in story.members()] == ids(1)


def test_a_drain_ends_early_when_no_session_is_left_but_not_within_two_seconds() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.obey()
    leaving = group("blue", instance(1), instance(2, "Terminating"))
    story.see(leaving, step=1.0)
    story.obey(sessions={iid(2): 3})
    story.see(leaving, step=5.0)
    assert story.drained() == ids(2)
    story.obey()
    story.see(leaving, step=1.0)
    assert [m.name for m in story.members()] == ids(1)


def test_no_session_proves_nothing_while_the_worker_still_sends_new_ones() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.obey()  # both at weight 100
    leaving = group("blue", instance(1), instance(2, "Terminating"))
    story.see(leaving)
    story.see(leaving)
    assert story.drained() == ids(2)


def test_no_session_proves_nothing_while_an_old_worker_lives() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.obey()
    leaving = group("blue", instance(1), instance(2, "Terminating"))
    story.see(leaving)
    story.obey()
    assert not isinstance(story.worker, Unknown)
    story.worker = replace(story.worker, old_workers=1)
    story.see(leaving)
    assert story.drained() == ids(2)


def test_a_server_that_the_worker_does_not_have_has_no_session() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.obey()
    assert not isinstance(story.worker, Unknown)
    servers = {key: value for key, value in story.worker.servers.items() if key[1] != iid(2)}
    story.worker = replace(story.worker, servers=servers)
    leaving = group("blue", instance(1), instance(2, "Terminating"))
    story.see(leaving)
    story.see(leaving)
    assert [m.name for m in story.members()] == ids(1)


def test_a_clock_that_goes_back_starts_the_drain_anew() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    leaving = group("blue", instance(1), instance(2, "Terminating"))
    story.see(leaving)
    story.see(leaving, step=-86400.0, started=500.0)
    assert story.drained() == ids(2)
    story.see(leaving, step=29.0, started=530.0)
    assert story.drained() == ids(2)
    story.see(leaving, step=1.0, started=531.0)
    assert [m.name for m in story.members()] == ids(1)


def test_standby_comes_back() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1), instance(2, "Standby"), desired=1))
    assert story.drained() == ids(2)
    story.see(fleet("blue", [1, 2]))
    assert story.names() == ids(1, 2)
    assert story.memory.draining == {}


def test_a_terminated_instance_does_not_come_back_with_a_stale_answer() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1), instance(2, "Terminating")))
    story.see(fleet("blue", [1, 2]))
    assert (story.names(), story.drained()) == (ids(1), ids(2))
    story.see(fleet("blue", [1, 2]), step=40.0)
    assert [m.name for m in story.members()] == ids(1)
    story.see(fleet("blue", [1, 2]))
    assert "stale" in story.last.verdicts[0].reason
    story.see(fleet("blue", [1, 2]), step=86400.0)  # a day later it is another story
    assert story.names() == ids(1, 2)


def test_a_member_whose_address_another_instance_has_goes_at_once() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(2), instance(3, address=instance(1).address)))
    assert [m.name for m in story.members()] == ids(2, 3)
    assert "belongs to" in story.last.verdicts[0].reason


# --- fail open ----------------------------------------------------------------------------------------------------


def test_when_all_terminate_and_nobody_replaces_them_they_keep_serving_until_they_are_gone() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    leaving = group("blue", instance(1, "Terminating:Wait"), instance(2, "Terminating:Wait"), desired=2)
    for _ in range(10):  # far beyond the drain: AWS still lists them
        story.see(leaving)
        assert story.names() == ids(1, 2)
    assert {(v.outcome, "fail open" in v.reason) for v in story.last.verdicts} == {("serving", True)}
    story.see(group("blue", desired=2))
    assert story.members() == ()


def test_fail_open_ends_when_a_replacement_takes_traffic() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.obey()
    both = group("blue", instance(1, "Terminating"), instance(2))
    story.see(both)
    assert story.names() == ids(1, 2)  # 2 is added, and 1 serves until 2 is up
    story.obey(down=[iid(2)])
    story.see(both)
    assert story.names() == ids(1, 2)
    story.obey(sessions={iid(1): 1})
    story.see(both)
    assert (story.names(), story.drained()) == (ids(2), ids(1))
    story.see(both, step=29.0)
    assert story.drained() == ids(1)  # the drain time runs from here, not from the first sign


def test_fail_open_is_for_groups_that_want_somebody() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1, "Terminating"), instance(2, "Terminating"), desired=0))
    assert (story.names(), story.drained()) == ([], ids(1, 2))


def test_a_source_of_weight_zero_replaces_nobody() -> None:
    story = Story(make_settings({"asg": "blue", "weight": 100}, {"asg": "green", "weight": 0}))
    story.see(fleet("blue", [1]), fleet("green", [2]))
    story.see(group("blue", instance(1, "Terminating"), desired=1), fleet("green", [2]))
    assert story.names() == ids(1, 2)


def test_a_standby_that_nobody_replaces_ends_with_its_drain_time() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    standby = group("blue", instance(1, "Standby"), desired=1)
    story.see(standby)
    story.see(standby, step=29.0)
    assert story.names() == ids(1)
    story.see(standby, step=1.0)
    assert story.members() == ()


# --- settings as evidence -----------------------------------------------------------------------------------------


def test_what_leaves_the_settings_leaves_the_backend_through_drain() -> None:
    story = Story(make_settings({"asg": "blue"}, {"static": ["10.0.9.10"]}))
    story.see(fleet("blue", [1]))
    story.settings = make_settings({"asg": "blue"})
    story.see(fleet("blue", [1]))
    assert (story.names(), story.drained()) == (ids(1), ["static-10.0.9.10"])


def test_a_group_that_is_no_longer_a_source_leaves_at_once_through_drain() -> None:
    story = Story(make_settings({"asg": "blue"}, {"asg": "green"}))
    story.see(fleet("blue", [1, 2, 3]), fleet("green", [4]))
    story.settings = make_settings({"asg": "green"})
    story.see(fleet("green", [4]))
    assert (story.names(), story.drained()) == (ids(4), ids(1, 2, 3))


def test_a_source_swapped_for_an_unknown_group_keeps_its_servers() -> None:
    story = Story(make_settings({"asg": "blue"}))
    story.see(fleet("blue", [1, 2]))
    story.settings = make_settings({"asg": "typo"})
    for _ in range(10):
        story.see()
        assert story.names() == ids(1, 2)


def test_a_port_that_leaves_the_settings_drains_its_servers() -> None:
    story = Story(make_settings({"asg": "blue"}, backend={"port": [80, 81]}))
    story.see(fleet("blue", [1]))
    story.settings = make_settings({"asg": "blue"}, backend={"port": [80, 82]})
    story.see(fleet("blue", [1]))
    assert (story.names(), story.drained()) == ([f"{iid(1)}-80", f"{iid(1)}-82"], [f"{iid(1)}-81"])


def test_static_servers_follow_the_settings_while_aws_is_away() -> None:
    story = Story(make_settings({"asg": "blue"}, {"static": ["10.0.9.10"]}))
    story.see(fleet("blue", [1]))
    story.settings = make_settings({"asg": "blue"}, {"static": ["10.0.9.11"]})
    story.blind()
    assert story.names() == [*ids(1), "static-10.0.9.11"]
    assert story.drained() == ["static-10.0.9.10"]
    story.blind(step=30.0)
    assert [m.name for m in story.members()] == [*ids(1), "static-10.0.9.11"]


# --- quarantine ---------------------------------------------------------------------------------------------------


def test_an_odd_item_is_quarantined_and_the_rest_applied() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2, 3]))
    story.see(
        group(
            "blue",
            instance(1, address=None),
            instance(2, "Sideways"),
            instance(3),
            instance(4),
            instance(5, address=None),
            instance(6, id="i-x\nserver evil"),
        )
    )
    assert story.names() == ids(1, 2, 3, 4)
    assert story.held() == ["quarantine"]
    assert "\n" not in story.last.held[0].reason
    outcomes = {(v.instance, v.outcome) for v in story.last.verdicts}
    assert {(iid(1), "held"), (iid(2), "held"), (iid(5), "absent")} <= outcomes


def test_one_odd_item_is_told_alone() -> None:
    story = Story()
    story.see(group("blue", instance(1), instance(2, "Sideways")))
    assert story.last.held[0].reason == "group blue gives it the unknown state 'Sideways'"


# --- unknown ------------------------------------------------------------------------------------------------------


def test_while_aws_is_away_everything_stays_as_it_is() -> None:
    story = Story()
    before = story.see(fleet("blue", [1, 2]), fleet("edge", [7]))
    for _ in range(50):
        after = story.blind(step=1800.0)
        assert after.desired == before.desired
        assert [(h.rule, h.subject) for h in after.held] == [("unknown", "membership")]


def test_a_server_missing_before_the_blackout_is_still_held_after_it() -> None:
    story = Story(make_settings(safety={"hold_max": 60}))
    story.see(fleet("blue", [1, 2, 3]))
    half = fleet("blue", [1], desired=3)
    for _ in range(3):
        story.see(half)
    story.blind()
    assert story.memory.missing.keys() == {f"site/{iid(2)}", f"site/{iid(3)}"}
    story.blind(step=86400.0)
    story.see(half)
    assert story.names() == ids(1, 2, 3)


def test_a_serving_leaver_stays_remembered_while_aws_is_away() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.see(group("blue", instance(1, "Terminating"), desired=1))
    began = story.memory.draining
    story.blind()
    assert (story.names(), story.memory.draining) == (ids(1), began)


def test_a_node_that_never_read_its_groups_wants_nothing() -> None:
    story = Story()
    decision = story.blind("no credentials")
    assert isinstance(decision.desired, Unknown)
    assert decision.desired.reason == "no membership was ever read: no credentials; every backend stays as it is"
    assert decision.memory.members == {}


def test_a_new_backend_is_no_empty_backend_while_aws_is_away() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    more = {"name": "new", "sources": [{"asg": "green"}], "domains": ["new.example.com"]}
    story.settings = make_settings(more_backends=[more])
    story.blind()
    assert isinstance(story.last.desired, Unknown)  # all stays as it is: rendered now, it would answer 503
    assert story.last.desired.reason.startswith("backend new was never read: AWS is away")
    assert [(h.rule, h.subject) for h in story.last.held] == [("unknown", "membership"), ("unread", "new")]
    assert "new" not in story.memory.members
    story.see(fleet("blue", [1]), fleet("green", range(200)))  # no ceiling: it was never read
    assert len(story.members("new")) == 200


def test_the_node_is_remembered_while_imds_is_silent() -> None:
    story = Story()
    story.see(fleet("blue", [1]))
    story.node = Unknown("IMDS is silent")
    assert story.names() == ids(1)
    story.see(fleet("blue", [1]))
    assert story.memory.node == NODE


def test_a_node_that_nobody_ever_told_who_it_is_wants_nothing() -> None:
    world = World(1.0, Unknown("IMDS is silent"), Groups({}, 1.0), Unknown(""), Unknown(""))
    decision = decide(make_settings(), world, Memory())
    assert decision.desired == Unknown("this node is not known: IMDS is silent")
    assert decision.memory == Memory()


# --- order of reads -----------------------------------------------------------------------------------------------


def test_a_read_that_began_before_the_last_one_is_held_once() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]), started=500.0)
    story.see(fleet("blue", [1, 2, 3]), started=400.0)
    assert (story.names(), story.held()) == (ids(1, 2), ["stale"])
    story.see(fleet("blue", [1, 2, 3]), started=410.0)  # so the host was started anew: its clock began at zero
    assert (story.names(), story.held()) == (ids(1, 2, 3), [])


def test_the_same_read_twice_counts_once() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    one = fleet("blue", [1])
    story.see(one)
    for _ in range(5):
        story.again(one)
        assert story.names() == ids(1, 2)
    assert story.memory.missing[f"site/{iid(2)}"].reads == 1


# --- memory lost, and force ---------------------------------------------------------------------------------------

TEXT = f"""
backend site
    server {iid(1)} 10.0.0.1:80 id 11 weight 90 check
    server static-10.0.9.10 10.0.9.10:80 id 12 weight 100 check
backend other
    server {iid(5)} 10.0.0.5:80 id 13 weight 1
"""


def test_a_lost_memory_is_rebuilt_from_the_installed_file() -> None:
    settings = make_settings()
    known = from_installed(settings, parse(TEXT))
    assert {name: [(m.name, m.instance, m.port, m.weight) for m in found] for name, found in known.items()} == {
        "site": [(iid(1), iid(1), 80, 90), ("static-10.0.9.10", "10.0.9.10", 80, 100)]
    }
    world = World(10.0, NODE, Groups({"blue": group("blue", desired=1)}, 1.0), Unknown(""), Unknown(""))
    decision = decide(settings, world, Memory(), known=known)
    assert decision.memory.members["site"][0].name == iid(1)  # the empty answer did not empty it


def test_names_with_ports_give_their_instance_back() -> None:
    settings = make_settings(backend={"port": [80, 81]})
    text = f"backend site\n    server {iid(1)}-81 10.0.0.1:81 id 11 weight 1\n"
    assert from_installed(settings, parse(text))["site"][0].instance == iid(1)


def test_force_lets_missing_servers_go_but_never_the_last() -> None:
    story = Story(rules=FORCED)
    story.see(fleet("blue", [1, 2, 3]))
    story.see()  # the group is gone
    assert len(story.names()) == 1
    assert story.held() == ["last_server"]


# --- question -----------------------------------------------------------------------------------------------------


def test_the_question_names_every_group_tag_and_family() -> None:
    settings = make_settings(
        {"asg": "blue"},
        {"asg_tag": {"app": "site", "env": "prod"}},
        {"static": ["10.0.9.10"]},
        more_backends=[
            {
                "name": "six",
                "family": "ipv6",
                "domains": ["six.example.com"],
                "sources": [{"asg": "green"}, {"asg_tag": {"six": "yes"}}],
            }
        ],
    )
    asked = question(settings, NODE)
    assert asked.names == {"blue", "green", "edge"}
    assert asked.tags == {("app", "site"), ("env", "prod"), ("six", "yes")}
    assert asked.ipv6 == {"green", "six=yes"}
    assert question(settings, None).names == {"blue", "green"}
    assert question(settings, Node("n", IPv4Address("10.0.0.1"), "", "")).names == {"blue", "green"}
    assert "edge" in question(settings, replace(NODE, address=IPv6Address("fd00::1"))).ipv6


# --- what breaks in the night -------------------------------------------------------------------------------------


def test_a_backend_renamed_while_aws_is_away_does_not_become_an_empty_one() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.settings = make_settings(backend={"name": "shop"}, frontends=WEB_TO_SHOP)
    story.blind()
    assert isinstance(story.last.desired, Unknown)
    story.see(fleet("blue", [1, 2]))
    assert story.names("shop") == ids(1, 2)


def test_a_renamed_backend_of_static_servers_needs_no_aws() -> None:
    story = Story(make_settings({"static": ["10.0.9.10"]}))
    story.see()
    story.settings = make_settings({"static": ["10.0.9.10"]}, backend={"name": "shop"}, frontends=WEB_TO_SHOP)
    story.blind()
    assert story.names("shop") == ["static-10.0.9.10"]


@pytest.mark.parametrize("hold_max", ["0s", "5s"])
def test_a_short_hold_max_does_not_make_every_gap_between_passes_a_blackout(hold_max: str) -> None:
    story = Story(make_settings(safety={"hold_max": hold_max}))
    story.see(fleet("blue", [1, 2, 3]))
    for _ in range(3):
        story.see(fleet("blue", [1, 2]))
    assert story.names() == ids(1, 2)


def test_a_static_server_that_joins_a_group_serves_under_its_old_name_until_the_new_one_is_up() -> None:
    story = Story(make_settings({"static": ["10.0.0.1", "10.0.0.2"]}))
    story.see()
    story.obey()
    story.settings = make_settings({"asg": "blue"})
    story.see(fleet("blue", [1, 2]))
    assert story.names() == [*ids(1, 2), "static-10.0.0.1", "static-10.0.0.2"]
    story.obey()
    story.see(fleet("blue", [1, 2]))
    assert story.drained() == ["static-10.0.0.1", "static-10.0.0.2"]


def test_an_instance_that_becomes_a_static_server_is_drained_under_its_old_name() -> None:
    story = Story(make_settings({"asg": "blue"}, {"static": ["10.0.0.1"]}))
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1, "Terminating:Wait"), instance(2)))
    assert story.drained() == ids(1)


@pytest.mark.parametrize("state", ["Pending", "Pending:Wait", "Warmed:Stopped", "Warmed:Pending:Proceed"])
def test_an_instance_that_a_warm_pool_took_back_serves_again(state: str) -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1), instance(2, "Terminating:Wait")))
    story.see(group("blue", instance(1), instance(2, state)))
    assert iid(2) not in story.names()
    story.see(fleet("blue", [1, 2]))
    assert story.names() == ids(1, 2)


def test_an_instance_that_ends_in_its_warm_pool_is_still_gone() -> None:
    story = Story()
    story.see(fleet("blue", [1, 2]))
    story.see(group("blue", instance(1), instance(2, "Terminating:Wait")))
    story.see(group("blue", instance(1), instance(2, "Warmed:Terminating")))
    story.see(fleet("blue", [1, 2]))
    assert iid(2) not in story.names()


def test_members_of_a_group_that_aws_forgot_follow_the_weight_of_their_source() -> None:
    story = Story(make_settings({"asg": "blue", "weight": 90}, {"asg": "green", "weight": 10}))
    story.see(fleet("blue", [1]), fleet("green", [2]))
    story.settings = make_settings({"asg": "blue", "weight": 0}, {"asg": "green", "weight": 100})
    story.see(fleet("green", [2]))
    assert story.weights() == {iid(1): 0, iid(2): 200}


def test_servers_of_somebody_elses_file_are_not_taken_for_members() -> None:
    text = (
        "backend site\n  server web1 10.0.0.8:80 id 1 weight 1\n"
        f"  server {iid(1)} 10.0.0.1:80 id 2 weight 100\n  server static-10.0.9.10 10.0.9.10:80 id 3 weight 100\n"
    )
    known = from_installed(make_settings(), parse(text))
    assert [m.name for m in known["site"]] == [iid(1), "static-10.0.9.10"]
