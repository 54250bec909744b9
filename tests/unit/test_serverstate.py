"""What HAProxy prints, read into values. The samples are from 2.6.12 and 3.2.26."""

import pytest

from hafleet.core import serverstate
from hafleet.core.cfgtext import ServerLine
from hafleet.core.model import RunningServer
from hafleet.core.replies import good
from hafleet.errors import ProxyUnavailable

STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change \
srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn \
srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
3 site 11 i-a 10.0.0.1 2 0 3 100 0 8 2 0 6 0 0 1 - 9001 - 0 0 - - 0
3 site 12 i-b fd00::1 0 8 0 0 0 8 2 0 6 0 0 1 - 9002 - 0 0 - - 0
3 site 13 i-c 10.0.0.3 0 1 7 7 0 1 0 0 14 0 0 1 - 9003 - 0 0 - - 0
4 bare 14 i-d 10.0.0.4 2 0 1 1 0 1 0 0 0 0 0 1 - 80 - 0 0 - - 0

"""
PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
100             master          3 [failed: 2]   1d02h03m04s     2.6.12-1+deb12u4
# workers
103             worker          0               0d00h00m05s     2.6.12-1+deb12u4
# old workers
101             worker          2               0d00h01m00s     2.6.12-1+deb12u4
# programs

"""


def line(name: str, address: str, port: int, options: str = "check") -> ServerLine:
    return ServerLine("site", name, address, port, 1, 55, options)


def test_servers_with_state_weight_checks_and_sessions() -> None:
    found = serverstate.servers(STATE, {("site", "i-a"): 4})
    assert list(found.values()) == [
        RunningServer("site", "i-a", 11, "10.0.0.1", 9001, False, False, 3, True, True, 4, proven=False),
        RunningServer("site", "i-b", 12, "fd00::1", 9002, False, True, 0, False, True, 0, proven=False),
        RunningServer("site", "i-c", 13, "10.0.0.3", 9003, True, False, 7, False, True, 0, proven=False),
        RunningServer("bare", "i-d", 14, "10.0.0.4", 80, False, False, 1, True, False, 0),
    ]


@pytest.mark.parametrize("text", ["", "2\n# be_id", "1\nnonsense\n", STATE[:-40]])
def test_a_cut_or_foreign_state_is_no_state(text: str) -> None:
    with pytest.raises(ProxyUnavailable):
        serverstate.servers(text, {})


def test_the_state_file_holds_servers_that_stay_with_the_wanted_weight() -> None:
    wanted = {
        ("site", "i-a"): line("i-a", "10.0.0.1", 9001),
        ("site", "i-b"): line("i-b", "fd00::1", 9002),  # in drain
        ("bare", "i-d"): line("i-d", "10.0.0.4", 80, "maxconn 3"),  # never checked: nothing would bring it up
    }
    text = serverstate.state_file(STATE, wanted)
    assert text.startswith("1\n# be_id be_name")
    assert text.endswith("\n3 site 11 i-a 10.0.0.1 2 0 55 55 0 8 2 0 6 0 0 1 - 9001 - 0 0 - - 0\n")
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(("address", "port"), [("10.0.0.1", 9009), ("10.0.0.9", 9001)])
def test_a_server_that_moved_is_not_in_the_state_file(address: str, port: int) -> None:
    text = serverstate.state_file(STATE, {("site", "i-a"): line("i-a", address, port)})
    assert len(text.splitlines()) == 2


def test_sessions_by_server() -> None:
    csv = "# pxname,svname,qcur,qmax,scur,smax,slim\nsite,i-a,0,0,4,9,\nsite,i-b,0,0,,9,\n\n"
    assert serverstate.sessions(csv) == {("site", "i-a"): 4, ("site", "i-b"): 0}


def test_processes_of_the_master() -> None:
    found = serverstate.processes(PROC)
    assert found.master == serverstate.Process(100, 3, 93784.0)
    assert found.worker == serverstate.Process(103, 0, 5.0)
    assert found.old == (serverstate.Process(101, 2, 60.0),)
    assert found.failed == 2


def test_after_a_failed_reload_no_worker_is_current() -> None:
    found = serverstate.processes(PROC.replace("worker          0  ", "worker          1  "))
    assert found.worker is None
    assert [process.pid for process in found.old] == [103, 101]


def test_an_answer_without_a_master_is_no_answer() -> None:
    with pytest.raises(ProxyUnavailable, match="did not list"):
        serverstate.processes("Unknown command")


def test_info() -> None:
    text = "Name: HAProxy\nVersion: 3.2.26-1\nPid: 77\nUptime_sec: 12\n"
    assert serverstate.info(text) == serverstate.Info((3, 2, 26), 77, 12.0)


@pytest.mark.parametrize("text", ["", "Version: 3.2.26\nPid: x\nUptime_sec: 1", "Version: x\nPid: 1\nUptime_sec: 1"])
def test_info_that_lacks_something_is_refused(text: str) -> None:
    with pytest.raises(ProxyUnavailable):
        serverstate.info(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("2.6.12-1+deb12u4", (2, 6, 12)), ("3.3-dev7", (3, 3, 0)), ("3.4", (3, 4, 0)), ("2.8.5", (2, 8, 5))],
)
def test_versions(text: str, found: tuple[int, int, int]) -> None:
    assert serverstate.version(text) == found


@pytest.mark.parametrize(
    ("kind", "reply", "ok"),
    [
        ("add", "New server registered.\n", True),
        ("add", "", False),
        ("add", "Already exists a server with the same name in backend.", False),
        ("set", "\n\n", True),
        ("set", "No such server.\n", False),
        ("remove", "", True),
        ("map-set", "", True),
        ("map-set", "entry not found.", False),
        ("map-prepare", "New version created: 12\n", True),
        ("map-prepare", "", False),
        ("wait", "Wait delay expired.\n", True),
        ("del", "Server deleted.\n", True),
        ("del", "This server cannot be removed at runtime due to other configuration elements pointing to it.", False),
        ("unheard of", "", False),
    ],
)
def test_replies_of_the_newest_version(kind: str, reply: str, ok: bool) -> None:
    assert good(kind, reply, (3, 2, 26)) is ok


def test_no_reply_to_del_server_is_good_where_it_can_crash() -> None:
    assert not good("del", "Server deleted.", (3, 2, 21))
    assert not good("wait", "Done.", (2, 6, 12))
