"""The plan as rows of (running, wanted) -> exact commands and reasons."""

from dataclasses import replace

import pytest

from hafleet.core import mapplan
from hafleet.core.cfgtext import digest, finish, parse
from hafleet.core.features import features
from hafleet.core.model import Installed, Rendered, RunningServer, Unknown, Version, Worker
from hafleet.core.proxyplan import NOTHING, ProxyPlan, plan
from hafleet.core.serverstate import UNFINISHED

OLD, SAFE = (2, 6, 12), (3, 2, 26)
CHECK = "check inter 2s"
HEAD = "frontend web\n bind :80\n use_backend %[path,map(/m/paths.map,site)]\n"


def text(*servers: str, head: str = HEAD, options: tuple[str, ...] = (CHECK,), name: str = "site") -> str:
    marks = [f" # hafleet:options {option}" for option in options]
    body = "\n".join((f"{head}backend {name}", *marks, *(f" server {server}" for server in servers)))
    return finish(body, source="s", author="a")


A = f"i-a 10.0.0.1:80 id 1 weight 100 {CHECK}"
B = f"i-b 10.0.0.2:80 id 2 weight 100 {CHECK}"


def running(
    name: str,
    number: int,
    weight: int = 100,
    *,
    maint: bool = False,
    drain: bool = False,
    checked: bool = True,
    port: int = 80,
) -> RunningServer:
    return RunningServer("site", name, number, f"10.0.0.{number}", port, maint, drain, weight, True, checked, 0)


def worker(stamp: str, *servers: RunningServer, version: Version = OLD, maps: dict[str, str] | None = None) -> Worker:
    return Worker(
        version, 1, 2, 100.0, 100.0, stamp, {(s.backend, s.name): s for s in servers}, maps or {}, old_workers=0
    )


def planned(
    installed: str | None, wanted: str, *servers: RunningServer, version: Version = OLD, stamp: str | None = None
) -> ProxyPlan:
    if stamp is None:
        assert installed is not None
        stamp = parse(installed).structure
    return plan(
        Installed(installed, {}), Rendered(wanted, {}), worker(stamp, *servers, version=version), features(version)
    )


def lines(found: ProxyPlan) -> list[str]:
    return [command.text for command in found.commands]


UP_DOWN = "enable health site/{0}; set server site/{0} state ready; set server site/{0} health down"


def test_nothing_to_do_is_an_empty_plan() -> None:
    found = planned(text(A, B), text(A, B), running("i-a", 1), running("i-b", 2))
    assert found == NOTHING
    assert found.empty
    assert found.lines() == ()


def test_a_new_server_is_added_down_and_must_pass_its_checks() -> None:
    found = planned(text(A), text(A, B), running("i-a", 1))
    assert lines(found) == [f"add server site/i-b 10.0.0.2:80 id 2 weight 100 {CHECK}", UP_DOWN.format("i-b")]
    assert (found.write, found.reload, found.removes) == (True, (), False)


def test_a_new_server_without_a_check_is_just_made_ready() -> None:
    bare = "i-b [fd00::2]:80 id 2 weight 100"
    found = planned(text(options=("",)), text(bare, options=("",)), stamp=parse(text(bare, options=("",))).structure)
    assert lines(found) == ["add server site/i-b [fd00::2]:80 id 2 weight 100", "set server site/i-b state ready"]


def test_adds_come_before_weights_and_weights_before_removals() -> None:
    light = A.replace("weight 100", "weight 5")
    third = B.replace("i-b", "i-c").replace("id 2", "id 3").replace("0.2:", "0.3:")
    found = planned(text(A, B), text(light, third), running("i-a", 1), running("i-b", 2))
    assert lines(found) == [
        f"add server site/i-c 10.0.0.3:80 id 3 weight 100 {CHECK}",
        UP_DOWN.format("i-c"),
        "set server site/i-a weight 5",
        "set server site/i-b state maint",
        "shutdown sessions server site/i-b",
    ]
    assert found.parked == found.removed == (("site", "i-b"),)
    assert found.lines()[-2:] == ("files: write", "parked: site/i-b")
    assert found.removes


def test_weights_rise_before_any_falls() -> None:
    """From 100:0 to 0:100 there is no moment in which the backend has no weight at all, which would answer 503."""
    blue, green = A.replace("weight 100", "weight 0"), B
    found = planned(
        text(A, B.replace("weight 100", "weight 0")), text(blue, green), running("i-a", 1), running("i-b", 2, 0)
    )
    assert lines(found) == ["set server site/i-b weight 100", "set server site/i-a weight 0"]


def test_a_removed_server_is_deleted_where_that_is_safe_and_a_parked_one_too() -> None:
    found = planned(
        text(A, B), text(A), running("i-a", 1), running("i-b", 2), running("i-z", 9, maint=True), version=SAFE
    )
    assert lines(found)[2:] == [
        "wait 1s srv-removable site/i-b",
        "del server site/i-b",
        "wait 1s srv-removable site/i-z",
        "del server site/i-z",
    ]
    assert found.parked == ()


def test_a_parked_server_below_the_safe_version_is_no_work() -> None:
    found = planned(text(A), text(A), running("i-a", 1), running("i-z", 9, maint=True))
    assert (found.empty, found.parked) == (True, (("site", "i-z"),))


@pytest.mark.parametrize(
    ("state", "commands"),
    [
        (running("i-a", 1, maint=True), [UP_DOWN.format("i-a")]),
        (running("i-a", 1, drain=True), ["set server site/i-a state ready"]),
        (running("i-a", 1, checked=False), ["enable health site/i-a"]),
        (running("i-a", 1, weight=3), ["set server site/i-a weight 100"]),
        (running("i-a", 1, maint=True, weight=3), [UP_DOWN.format("i-a"), "set server site/i-a weight 100"]),
    ],
)
def test_a_running_server_is_brought_back_to_what_is_wanted(state: RunningServer, commands: list[str]) -> None:
    assert lines(planned(text(A), text(A), state)) == commands


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (text(A.replace(":80", ":81")), "site/i-a moved from 10.0.0.1:80 to 10.0.0.1:81"),
        (text(A.replace("0.1:", "0.7:")), "site/i-a moved from 10.0.0.1:80 to 10.0.0.7:80"),
        (text(A.replace("id 1", "id 7")), "the id of site/i-a changed from 1 to 7"),
        (text(A, head="frontend web\n bind :81\n"), "the structure changed"),
    ],
)
def test_what_no_command_can_do_is_a_reload_and_says_why(wanted: str, reason: str) -> None:
    found = planned(text(A), wanted, running("i-a", 1))
    assert found.reload == (reason,)
    assert found.lines()[-1] == f"reload: {reason}"


TWO = (CHECK, f"{CHECK} backup")


def test_a_changed_option_within_the_known_ones_is_a_reload() -> None:
    found = planned(text(A, options=TWO), text(f"{A} backup", options=TWO), running("i-a", 1, maint=True))
    assert found.reload == ("the options of site/i-a changed",)
    assert lines(found) == []


def test_a_server_that_no_file_tells_runs_with_the_only_options_there_are() -> None:
    found = planned(text(), text(A), running("i-a", 1))
    assert (lines(found), found.reload, found.write) == ([], (), True)


def test_a_server_that_no_file_tells_is_reloaded_where_there_are_several_options() -> None:
    found = planned(text(options=TWO), text(A, options=TWO), running("i-a", 1))
    assert found.reload == ("site/i-a runs with options that no installed file tells",)


def test_a_server_in_neither_text_leaves() -> None:
    found = planned(text(A), text(A), running("i-a", 1), running("i-b", 2))
    assert found.removed == (("site", "i-b"),)


def test_servers_that_are_structure_are_never_touched() -> None:
    fixed = "old 10.0.0.9:80 disabled"
    found = planned(text(A, fixed), text(A, fixed), running("i-a", 1), running("old", 9, maint=True))
    assert (found.empty, found.parked) == (True, ())
    template = text(A).replace(" server i-a", " server-template web 2 10.0.0.9:80\n server i-a")
    template = finish(template.partition("\n\n")[2].partition("\n\n# The agent")[0], source="s", author="a")
    assert planned(template, template, running("i-a", 1), running("web1", 9)).empty


def test_a_server_of_a_backend_we_do_not_know_is_never_touched() -> None:
    other = replace(running("x", 9), backend="stats")
    assert planned(text(A), text(A), running("i-a", 1), other).empty


def test_while_a_reload_is_due_the_commands_go_ahead_for_backends_that_run() -> None:
    wanted = text(A.replace("weight 100", "weight 0"), B, head="frontend web\n bind :81\n")
    found = planned(text(A), wanted, running("i-a", 1))
    assert lines(found)[0].startswith("add server site/i-b")
    assert lines(found)[-1] == "set server site/i-a weight 0"
    held = found.without_reload()
    assert (held.reload, held.held_write, held.empty) == ((), True, False)
    assert "files: held back with the reload" in held.lines()
    assert replace(held, commands=()).empty


def test_a_server_of_a_backend_that_does_not_run_yet_comes_with_the_reload() -> None:
    found = planned(text(A), text(A, name="fresh"), running("i-a", 1))
    assert [line for line in lines(found) if "add server" in line] == []
    assert found.reload == ("the structure changed",)
    assert found.removes


def test_options_that_changed_are_not_enabled_ahead_of_the_reload() -> None:
    found = planned(text(A), text(A.replace("2s", "9s"), options=("check inter 9s",)), running("i-a", 1, 3, maint=True))
    assert lines(found) == ["set server site/i-a weight 100"]
    assert found.reload == ("the structure changed",)


@pytest.mark.parametrize(
    ("installed", "stamp", "reason"),
    [
        (text(A), "", "the running configuration is not known to be hafleet's"),
        (text(A), UNFINISHED, "an earlier reload was broken off"),
        (text(A), "0" * 64, "the running structure is neither the installed nor the wanted one"),
        (None, "0" * 64, "the running structure is neither the installed nor the wanted one"),
        (text(A).replace("bind :80", "bind :81"), None, "the installed file is not as hafleet wrote it"),
        ("frontend web\n bind :80\n", parse(text(A)).structure, "the installed file is not as hafleet wrote it"),
    ],
)
def test_a_worker_that_the_disk_does_not_explain_is_reloaded(
    installed: str | None, stamp: str | None, reason: str
) -> None:
    found = planned(installed, text(A), running("i-a", 1, maint=True), stamp=stamp)
    assert found.reload == (reason,)


def test_a_worker_with_the_wanted_structure_needs_no_file_to_be_known() -> None:
    found = planned(None, text(A), running("i-a", 1), stamp=parse(text(A)).structure)
    assert (found.reload, found.write, lines(found)) == ((), True, [])


def test_while_the_worker_is_unknown_only_the_files_go_on() -> None:
    assert plan(Installed(None, {}), Rendered(text(A), {}), Unknown("down"), features(OLD)) == ProxyPlan(write=True)
    assert plan(Installed(text(A), {}), Rendered(text(A), {}), Unknown("down"), features(OLD)).empty


def test_many_adds_to_one_backend_are_a_reload() -> None:
    many = [f"i-{n} 10.1.{n // 250}.{n % 250 + 1}:80 id {n} weight 1 {CHECK}" for n in range(1, 2002)]
    found = planned(text(), text(*many))
    assert found.reload == ("2001 servers to add to site: a reload is quicker",)
    assert lines(found) == []
    assert len(lines(planned(text(), text(*many[1:])))) == 4000


def test_a_cookie_cannot_be_added_by_the_oldest_version() -> None:
    cookie = f"{CHECK} cookie %N"
    old, new = text(options=(cookie,)), text(f"{A} cookie i-a", options=(cookie,))
    assert planned(old, new).reload == ("HAProxy 2.6 cannot add a server with a cookie to site",)
    assert lines(planned(old, new, version=SAFE))[0].endswith("cookie i-a")


@pytest.mark.parametrize(
    ("shown", "same"),
    [("fd00::a", True), ("fd00:0:0::a", True), ("::ffff:10.0.0.1", False), ("10.0.0.1", False), ("a:b", False)],
)
def test_addresses_are_compared_as_addresses(shown: str, same: bool) -> None:
    six = text(A.replace("10.0.0.1:80", "[fd00::a]:80"))
    found = planned(six, six, replace(running("i-a", 1), address=shown))
    assert (found.reload == ()) is same


# --- maps -----------------------------------------------------------------------------------------------------------


def map_file(entries: dict[str, str]) -> str:
    body = "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
    return f"# ours\n{mapplan.STAMP_KEY} {digest(body)[:8]}\n\n{body}"


def mapped(old: str, new: str, *, runs: str | None = None, wanted: str = text(A)) -> ProxyPlan:
    """``runs``: the stamp that the worker shows; by default that of the old content."""
    shown = mapplan.stamp(old) if runs is None else runs
    seen = worker(parse(text(A)).structure, running("i-a", 1), maps={"paths.map": shown})
    return plan(Installed(text(A), {"paths.map": old}), Rendered(wanted, {"paths.map": new}), seen, features(OLD))


def test_a_few_entries_are_changed_one_by_one_between_two_marks() -> None:
    old, new = map_file({"/a": "site", "/b": "x", "/c": "site"}), map_file({"/b": "site", "/c": "site", "/d": "site"})
    found = mapped(old, new)
    assert lines(found) == [
        "set map /m/paths.map hafleet-stamp.invalid changing",
        "add map /m/paths.map /d site",
        "set map /m/paths.map /b site",
        "del map /m/paths.map /a",
        f"set map /m/paths.map hafleet-stamp.invalid {mapplan.stamp(new)}",
    ]
    assert found.write


@pytest.mark.parametrize("runs", ["changing", "", None])
def test_an_unknown_or_very_different_map_is_replaced_in_one_transaction(runs: str | None) -> None:
    new = map_file({f"/{n}": "site" for n in range(300)})
    found = lines(mapped(map_file({"/a": "site"}), new, runs=runs))
    assert found[0] == "prepare map /m/paths.map"
    assert found[1] == f"add map @{{version}} /m/paths.map hafleet-stamp.invalid {mapplan.stamp(new)}"
    assert found[-1] == "commit map @{version} /m/paths.map"
    assert len(found) == 303


def test_a_map_that_runs_as_wanted_is_left_alone_though_the_file_differs() -> None:
    new = map_file({"/a": "site"})
    found = mapped(map_file({}), new, runs=mapplan.stamp(new))
    assert (lines(found), found.write) == ([], True)


def test_maps_that_the_worker_or_the_text_does_not_have_and_maps_without_a_stamp_are_only_written() -> None:
    new = map_file({"/a": "site"})
    seen = worker(parse(text(A)).structure, running("i-a", 1), maps={"paths.map": "x", "other.map": "x"})
    wanted = Rendered(text(A), {"paths.map": "/a site\n", "other.map": new, "third.map": new})
    found = plan(Installed(text(A), {}), wanted, seen, features(OLD))
    assert (lines(found), found.write) == ([], True)


def test_a_map_that_names_a_backend_of_the_coming_structure_waits_for_the_reload() -> None:
    coming = text(A, head=f"{HEAD}backend fresh\n")
    assert lines(mapped(map_file({}), map_file({"/a": "fresh"}), wanted=coming)) == []
    assert lines(mapped(map_file({}), map_file({"/a": "site"}), wanted=coming)) != []


def test_the_first_of_two_equal_keys_counts() -> None:
    assert mapplan.entries("/a one\n/a two\n") == {"/a": "one"}


@pytest.mark.parametrize("key", ["/a;b", "/a\\b", "/a#b", '/a"b', "/<<"])
def test_an_entry_that_a_command_line_would_take_apart_is_a_reload(key: str) -> None:
    found = mapped(map_file({}), map_file({key: "site"}))
    assert found.reload == ("an entry of paths.map cannot go on a command line",)
    assert lines(found) == []
    assert lines(mapped(map_file({key: "site"}), map_file({})))[0] == "prepare map /m/paths.map"


def test_a_command_that_is_too_long_is_a_reload() -> None:
    long = f"{CHECK} sni {'x' * 16_000}"
    found = planned(text(options=(long,)), text(f"{A[: -len(CHECK)]}{long}", options=(long,)))
    assert found.reload == ("a runtime command would be longer than HAProxy takes",)
    assert found.commands == ()
