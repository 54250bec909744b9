"""The switch of the health endpoint: the command that turns it, and the mark in the file that is no structure."""

from dataclasses import replace

import pytest

from hafleet.core import switch
from hafleet.core.cfgtext import SWITCH, complete, finish, parse
from hafleet.core.model import Claim, Memory, Rendered, RunningServer, Unknown, Worker
from hafleet.core.serverstate import UNFINISHED

SERVING = Memory(phase="serving")
LEAVING = Memory(phase="leaving", leaving={"operator": Claim("works on it", 1.0)})
LINE = "server ready 127.0.0.1:9 id 1 weight 1"
BODY = f"""
backend site
    server ready 10.0.0.1:80 id 5 weight 1
backend hafleet_ready
    # its state is the switch
    mode http

    {LINE}
backend other
    server ready 10.0.0.2:80 id 6 weight 1
"""


def made(body: str = BODY) -> str:
    return finish(body, source="s", author="a")


def worker(maint: bool = False, drain: bool = False, stamp: str = "abc") -> Worker:
    server = RunningServer(*SWITCH, 1, "127.0.0.1", 9, maint, drain, 1, not maint, False, 0)
    return Worker((3, 2, 26), 1, 2, 100.0, 100.0, stamp, {SWITCH: server}, {}, 0)


BARE = replace(worker(), servers={})


@pytest.mark.parametrize(
    ("seen", "memory", "sent"),
    [
        (worker(), SERVING, []),
        (worker(), LEAVING, ["set server hafleet_ready/ready state maint"]),
        (worker(maint=True), LEAVING, []),
        (worker(drain=True), LEAVING, []),  # red all the same
        (worker(maint=True), SERVING, ["set server hafleet_ready/ready state ready"]),
        (worker(drain=True), Memory(), ["set server hafleet_ready/ready state ready"]),
        (BARE, LEAVING, []),
        (Unknown("no socket"), LEAVING, []),
    ],
)
def test_the_command_that_turns_the_endpoint(seen: Worker | Unknown, memory: Memory, sent: list[str]) -> None:
    assert [command.text for command in switch.commands(seen, memory)] == sent


def test_green_is_what_answers_200() -> None:
    assert switch.is_green(worker()) and switch.is_green(BARE)
    assert not switch.is_green(worker(maint=True))
    assert not switch.is_green(worker(drain=True))
    assert not switch.is_green(Unknown("no socket"))


def test_a_template_without_the_switch_is_a_fault_of_a_leaving_node_alone() -> None:
    (fault,) = switch.faults(BARE, LEAVING)
    assert "hafleet_ready" in str(fault) and "template" in str(fault)
    assert switch.faults(BARE, SERVING) == ()
    assert switch.faults(worker(), LEAVING) == ()
    assert switch.faults(Unknown("no socket"), LEAVING) == ()
    for stamp in ("", UNFINISHED):  # not a configuration of ours: a reload is due
        assert switch.faults(replace(BARE, stamp=stamp), LEAVING) == ()


def test_the_mark_is_no_structure_and_comes_off_without_a_trace() -> None:
    green = made()
    red = switch.switched(green, red=True)
    assert red.count("disabled") == 1 and f"    {LINE} disabled\n" in red
    complete(red)
    assert parse(red).structure == parse(green).structure == parse(red).stamp
    assert parse(red) == parse(green)
    assert switch.switched(red, red=True) is red
    assert switch.switched(red, red=False) == green
    assert switch.switched(green, red=False) is green


def test_control_the_same_mark_on_another_server_is_structure() -> None:
    other = BODY.replace("10.0.0.2:80 id 6 weight 1", "10.0.0.2:80 id 6 weight 1 disabled")
    assert parse(made(other)).structure != parse(made()).structure
    extra = BODY.replace(LINE, f"{LINE}\n    server readyish 127.0.0.1:9 id 2 weight 1 disabled")
    plain = extra.replace(" disabled", "")
    assert parse(made(extra)).structure != parse(made(plain)).structure


@pytest.mark.parametrize("blanks", ["", "\t", "        "])
@pytest.mark.parametrize("comment", ["", " # the switch", "  # say: server ready"])
def test_the_line_is_found_however_it_is_set(blanks: str, comment: str) -> None:
    text = made(BODY.replace(f"    {LINE}", f"{blanks}{LINE}{comment}"))
    red = switch.switched(text, red=True)
    assert f"{LINE} disabled{comment}\n" in red
    assert parse(red).structure == parse(text).structure
    assert switch.switched(red, red=False) == text


@pytest.mark.parametrize(
    "text",
    [
        made("backend site\n"),
        made("backend hafleet_ready\n    mode http\nbackend other\n    server ready 10.0.0.2:80 id 6 weight 1\n"),
        made(BODY.replace(LINE, 'server ready 127.0.0.1:9 "id" 1')),
        BODY,  # not finished: somebody else's file
        made().replace("mode http", "mode tcp"),  # edited by hand
    ],
    ids=["no backend", "no server in it", "quoted", "unfinished", "edited"],
)
def test_a_text_without_a_switch_of_ours_is_left_alone(text: str) -> None:
    assert switch.switched(text, red=True) == text


def test_the_files_follow_the_phase_and_the_maps_stay() -> None:
    files = Rendered(made(), {"x.map": "a b\n"})
    red = switch.coloured(files, LEAVING)
    assert red == Rendered(switch.switched(files.text, red=True), files.maps)
    assert switch.coloured(red, SERVING) == files
