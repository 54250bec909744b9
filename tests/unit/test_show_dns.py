from io import StringIO

from rich.console import Console

from hafleet import show_dns
from hafleet.core.dns.model import Alias, Check, CheckConfig, CheckMemo, Place, Record
from hafleet.core.dns.plan import Apply, AwaitInsync, CreateCheck, DeleteCheck, Look, Wait, create, delete
from hafleet.core.dns.report import DnsPlan
from hafleet.core.model import Held
from hafleet.registering import Estate, lines
from hafleet.registration.byhand import Found

NAME = "lb.example.test"
ONE, TWO = "i-0000000000000001", "i-0000000000000002"
LEAF = Record(NAME, "A", ONE, ttl=30, values=("203.0.113.1",), weight=100, check="c1", stored="{}")
ALIAS = Record(NAME, "A", "shard-00", alias=Alias(f"shard-00.{NAME}", "Z1"), weight=4)
HTTP = CheckConfig("HTTP", "203.0.113.1", 8403, "/hafleet-health", interval=10)


def text(renderable: object) -> str:
    console = Console(file=StringIO(), width=400, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def words(line: str) -> list[str]:
    return [word for word in line.split("  ") if word.strip()]


def test_an_estate_is_a_line_for_each_record_with_its_check() -> None:
    records = (
        LEAF,
        ALIAS,
        Record(NAME, "AAAA", TWO, ttl=30, values=("2001:db8::1",), multivalue=True, check="foreign"),
        Record(NAME, "A", "eu-west-1", alias=Alias(f"eu-west-1.{NAME}", "Z1"), region="eu-west-1"),
        Record(NAME, "A", "*", alias=Alias(f"x.{NAME}", "Z1"), place=Place()),
        Record(NAME, "A", "primary", alias=Alias(f"a.{NAME}", "Z1"), failover="PRIMARY"),
        Record(f"txt.{NAME}", "TXT", ttl=60, values=('"a b"',)),
    )
    checks = (Check("c1", "hf1:x", HTTP), Check("c2", "hf1:y", HTTP))
    shown = text(show_dns.estate(Estate(records, checks, {"c1": ONE, "c2": TWO}, frozenset({"c2"})))).splitlines()
    rows = {tuple(cell.strip() for cell in words(line)) for line in shown}
    for row in (
        (NAME, "A", ONE, "203.0.113.1", "weight 100", "30", "c1 HTTP"),
        (NAME, "A", "shard-00", f"-> shard-00.{NAME}", "weight 4", "-", "-"),
        (NAME, "AAAA", TWO, "2001:db8::1", "multivalue", "30", "foreign (not of this fleet)"),
        (NAME, "A", "eu-west-1", f"-> eu-west-1.{NAME}", "eu-west-1", "-", "-"),
        (NAME, "A", "*", f"-> x.{NAME}", "geolocation", "-", "-"),
        (NAME, "A", "primary", f"-> a.{NAME}", "primary", "-", "-"),
        (f"txt.{NAME}", "TXT", "-", '"a b"', "simple", "60", "-"),
        ("health checks that no record uses",),
        ("c2", "HTTP", TWO, "hf1:y"),
    ):
        assert row in rows, (row, rows)


def test_an_empty_estate_says_so() -> None:
    shown = text(show_dns.estate(Estate((), (), {}, frozenset())))
    assert shown == "no record stands at or below the name\n"


def test_the_json_of_a_record_holds_what_is_set() -> None:
    assert show_dns.record_data(LEAF) == {
        "name": NAME,
        "type": "A",
        "set_id": ONE,
        "ttl": 30,
        "values": ("203.0.113.1",),
        "weight": 100,
        "check": "c1",
    }
    zero = Record(NAME, "A", ONE, ttl=0, values=("203.0.113.1",), weight=0)
    assert (show_dns.record_data(zero)["ttl"], show_dns.record_data(zero)["weight"]) == (0, 0)
    assert show_dns.record_data(ALIAS)["alias"] == {"target": f"shard-00.{NAME}", "zone_id": "Z1", "evaluate": True}


def test_a_plan_in_words() -> None:
    steps = (
        CreateCheck("A/endpoint", CheckMemo("hf1:x", HTTP)),
        Apply((create(LEAF),), "join"),
        AwaitInsync("C1"),
        DeleteCheck("c0"),
        Wait(5.0, "clients move away"),
        Look(),
    )
    told = [line for step in steps for line in lines(step)]
    assert told == [
        "create health check HTTP 203.0.113.1:8403/hafleet-health [A/endpoint]",
        f"join: create {NAME} A [{ONE}] 203.0.113.1 weight 100 ttl 30 check c1",
        "wait until it is in force everywhere",
        "delete health check c0",
        "wait: clients move away",
    ]
    shown = text(show_dns.plan(told, DnsPlan(steps, ())))
    assert shown.splitlines() == told


def test_other_kinds_of_checks_name_what_they_look_at() -> None:
    alarm = CheckConfig("CLOUDWATCH_METRIC", alarm="web i-1", alarm_region="eu-west-1")
    assert lines(CreateCheck("A/alarm", CheckMemo("r", alarm))) == (
        "create health check CLOUDWATCH_METRIC web i-1 [A/alarm]",
    )
    total = CheckConfig("CALCULATED", children=("c1", "c2"), healthy=1)
    assert lines(CreateCheck("A/calculated", CheckMemo("r", total))) == (
        "create health check CALCULATED its children [A/calculated]",
    )


def test_a_plan_without_steps_says_why() -> None:
    assert text(show_dns.plan((), DnsPlan((), ()))) == "nothing to do: Route 53 has what it should\n"
    held = DnsPlan((), (), held=(Held("last_record", NAME, "it is the last"),))
    assert text(show_dns.plan((), held)).splitlines() == [
        "nothing to do now",
        f"held  {NAME}: it is the last [last_record]",
    ]
    blocked = text(show_dns.plan((), DnsPlan((), (), problems=("dns.ttl: differs",))))
    assert blocked.splitlines() == ["nothing to do now", "fault dns.ttl: differs"]


def test_suspects_and_what_they_left() -> None:
    found = Found((LEAF, ALIAS), (ONE, TWO), tuple(f"delete {r.name}" for r in (delete(LEAF).record,)))
    assert show_dns.suspects(found) == (
        f"{ONE} is gone; it left {NAME} A 203.0.113.1",
        f"{TWO} is gone; it left no record, but a health check",
        f"delete {NAME}",
    )
    assert show_dns.suspects(Found((), ())) == ()
