"""When events are relied on: proven by a pulse, doubted after a change that none told. Times are seconds."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from hafleet.core.model import Group, Groups, Instance, Memory, Missing
from hafleet.core.proof import DOUBT, EAGER, GRACE, LATE, Proof, found, moved, polled, proven, pulsed, spares, told
from hafleet.core.waking import by_timer, calm, settles

A, B = "i-0000000a", "i-0000000b"
BEATS = pulsed(Proof(), 1000.0)


def test_nothing_is_relied_on_before_a_pulse() -> None:
    assert not proven(Proof(), 1000.0)
    assert not spares(Proof(), 1000.0, age=0.0, interval=60.0)


@pytest.mark.parametrize(("later", "expected"), [(0.0, True), (LATE, True), (LATE + 0.1, False)])
def test_a_pulse_proves_for_a_while(later: float, expected: bool) -> None:
    assert proven(BEATS, 1000.0 + later - 0.05) is expected


def test_an_event_alone_proves_nothing() -> None:
    assert not proven(told(Proof(), 1000.0), 1001.0)


def test_a_poll_that_fails_ends_it_at_once_and_one_that_succeeds_does_not_need_another_pulse() -> None:
    failing = polled(BEATS, failing=True)
    assert not proven(failing, 1001.0)
    assert proven(polled(failing, failing=False), 1002.0)


def test_a_read_is_spared_while_it_is_young() -> None:
    assert spares(BEATS, 1010.0, age=59.9, interval=60.0)
    assert not spares(BEATS, 1010.0, age=60.0, interval=60.0)


def test_after_an_event_every_pass_reads_for_a_while() -> None:
    heard = told(BEATS, 1000.0)
    assert proven(heard, 1001.0)
    assert not spares(heard, 1000.0 + EAGER - 0.1, age=1.0, interval=60.0)
    assert spares(heard, 1000.0 + EAGER, age=1.0, interval=60.0)


def test_a_change_that_no_event_tells_is_doubted_for_an_hour() -> None:
    alone = found(BEATS, 1000.0)
    assert proven(alone, 1000.0 + GRACE - 0.1)  # its event may still come
    for later in (GRACE, DOUBT - 0.1):
        assert not proven(pulsed(alone, 1000.0 + later), 1000.0 + later)
    assert proven(pulsed(alone, 1000.0 + DOUBT), 1000.0 + DOUBT)
    assert found(alone, 1500.0) == alone  # the first one counts


@pytest.mark.parametrize("after", [1.0, GRACE - 1, DOUBT / 2])
def test_an_event_that_comes_ends_the_doubt(after: float) -> None:
    healed = pulsed(told(found(BEATS, 1000.0), 1000.0 + after), 1000.0 + after)
    assert proven(healed, 1000.0 + after + GRACE)


def test_a_change_shortly_after_its_event_is_explained() -> None:
    heard = told(BEATS, 1000.0)
    assert found(heard, 1000.0 + EAGER - 1) == heard
    assert found(heard, 1000.0 + EAGER).untold_at == 1000.0 + EAGER


# --- what makes an event ----------------------------------------------------------------------------------------------


def groups(*instances: Instance, name: str = "site") -> Groups:
    return Groups({name: Group(name, 1, instances)}, 1.0)


def one(name: str, state: str = "InService") -> Instance:
    return Instance(name, state, "a", ip_address("10.0.0.1"))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((one(A),), (one(A),), False),
        ((one(A),), (one(A), one(B)), True),
        ((one(A), one(B)), (one(A),), True),
        ((one(A, "Pending"),), (one(A),), True),
        ((one(A, "Warmed:Stopped"),), (one(A),), True),
        ((one(A),), (one(A, "Terminating:Wait"),), True),
        ((one(A, "Terminating"),), (), False),
        ((one(A, "Standby"),), (one(A),), False),
        ((one(A),), (one(A, "EnteringStandby"),), False),
        ((), (one(A, "Pending"),), False),
    ],
)
def test_what_would_have_been_told(before: tuple[Instance, ...], after: tuple[Instance, ...], expected: bool) -> None:
    assert moved(groups(*before), groups(*after)) is expected


def test_a_group_that_only_one_read_has_says_nothing() -> None:
    assert not moved(groups(one(A)), groups(one(B), name="other"))


# --- reasons ----------------------------------------------------------------------------------------------------------


def test_files_settle_and_only_the_timer_is_the_timer() -> None:
    assert settles("file hafleet.yaml") and not settles("event: site came")
    assert by_timer(("timer",))
    assert not by_timer(("timer", "SIGHUP")) and not by_timer(("SIGHUP",)) and not by_timer(())


def test_a_pass_that_waits_for_aws_is_not_calm() -> None:
    serving = Memory(phase="serving")
    assert calm(serving, ())
    assert not calm(serving, ("held",))
    assert not calm(replace(serving, phase="leaving"), ())
    assert not calm(replace(serving, draining={"site/a": 1.0}), ())
    assert not calm(replace(serving, missing={"site/a": Missing(1, 1.0)}), ())
