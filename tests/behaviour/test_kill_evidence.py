"""Controls of what judges the kills: each breach of a node's life is found in a journal that has it, and none in a good one."""

import pytest

from tests.behaviour.kill_evidence import breaches, leaks
from tests.behaviour.kill_proxy import Written, is_write, queue_of, records_changed

NODE, OTHER = "i-0000000000000000a", "i-0000000000000000b"


def call(name: str, asked: str = "", answer: str = "", *, status: int = 200, caller: str = NODE) -> Written:
    return Written(caller, name, asked, status, answer)


def batch(*changes: tuple[str, str], status: int = 200, caller: str = NODE) -> Written:
    inner = "".join(
        f"<Change><Action>{action}</Action><ResourceRecordSet><SetIdentifier>{owner}</SetIdentifier></ResourceRecordSet></Change>"
        for action, owner in changes
    )
    return call("ChangeResourceRecordSets", f"/rrset\n{inner}", status=status, caller=caller)


def completes(hook: str, result: str = "CONTINUE", status: int = 200) -> Written:
    form = (
        f"/\nAction=CompleteLifecycleAction&LifecycleHookName={hook}&LifecycleActionResult={result}&InstanceId={NODE}"
    )
    return call("CompleteLifecycleAction", form, status=status)


def takes(allocation: str, association: str) -> Written:
    answer = f"<associationId>{association}</associationId>"
    return call("AssociateAddress", f"/\nAllocationId={allocation}&InstanceId={NODE}", answer)


def gives(association: str) -> Written:
    return call("DisassociateAddress", f"/\nAction=DisassociateAddress&AssociationId={association}")


def checked(id_: str) -> Written:
    return call("CreateHealthCheck", answer=f"<HealthCheck><Id>{id_}</Id></HealthCheck>", status=201)


def unchecked(id_: str) -> Written:
    return call("DeleteHealthCheck", f"/2013-04-01/healthcheck/{id_}\n")


QUEUE = f'{{"QueueName": "hafleet-lab-{NODE}"}}'
URL = f'{{"QueueUrl": "http://127.0.0.1:5600/123456789012/hafleet-lab-{NODE}"}}'
END = f"/\nAction=Subscribe&Endpoint=arn%3Aaws%3Asqs%3Aeu-west-1%3A123456789012%3Ahafleet-lab-{NODE}"
JOIN = [
    call("CreateQueue", QUEUE),
    call("Subscribe", END),
    takes("eipalloc-1", "eipassoc-1"),
    checked("c1"),
    batch(("CREATE", NODE)),
    completes("born"),
]
WITHDRAWN = batch(("DELETE", OTHER), ("CREATE", OTHER), ("DELETE", NODE))  # with a witness that stays
OUT = [WITHDRAWN, unchecked("c1"), gives("eipassoc-1"), call("Unsubscribe"), call("DeleteQueue", URL)]
GONE = completes("gone")


def test_a_good_life_has_no_breach() -> None:
    assert breaches(NODE, JOIN, ended=False) == []
    assert breaches(NODE, [*JOIN, *OUT, GONE], ended=True) == []
    again = [checked("c1"), takes("eipalloc-1", "eipassoc-2"), batch(("CREATE", NODE), status=400)]
    late = [completes("gone", status=400), batch(("CREATE", NODE), status=400)]
    rest = [gives("eipassoc-2") if step.name == "DisassociateAddress" else step for step in OUT]
    assert breaches(NODE, [*JOIN, *again, *rest, GONE, *late], ended=True) == []  # what AWS refused never was


@pytest.mark.parametrize(
    ("journal", "expected"),
    [
        ([*JOIN, *OUT], "completed ['born CONTINUE']"),
        ([*JOIN, *OUT, GONE, GONE], "completed ['born CONTINUE', 'gone CONTINUE', 'gone CONTINUE']"),
        ([*JOIN[:-1], completes("born", "ABANDON"), *OUT, GONE], "completed ['born ABANDON', 'gone CONTINUE']"),
        ([*JOIN, WITHDRAWN, batch(("CREATE", NODE)), *OUT, GONE], "announced again after its record had gone"),
        ([*JOIN, *OUT, GONE, batch(("CREATE", NODE))], "announced after its terminate hook was completed"),
        ([*JOIN, batch(("CREATE", NODE)), *OUT, GONE], "two records at a time"),
        ([*JOIN, checked("c2"), unchecked("c2"), *OUT, GONE], "2 checks at a time"),
        ([*JOIN, takes("eipalloc-2", "eipassoc-2"), gives("eipassoc-2"), *OUT, GONE], "2 addresses at a time"),
        ([JOIN[-1], *JOIN[:-1], *OUT, GONE], "in service before it was whole"),
        ([*JOIN, *OUT[1:], GONE], "still in DNS when its terminate hook was completed"),
        ([*JOIN, *OUT[1:], GONE], "withdrawn 0 times"),
        ([*JOIN[:-2], JOIN[-1], *OUT, GONE], "announced 0 times"),
        ([*JOIN, OUT[0], *OUT[2:], GONE], "still with a health check when its terminate hook was completed"),
        ([*JOIN, *OUT[:2], *OUT[3:], GONE], "still with an address when its terminate hook was completed"),
        ([*JOIN, *OUT[:3], OUT[4], GONE], "still subscribed when its terminate hook was completed"),
        ([*JOIN, *OUT[:4], GONE], "still with a queue when its terminate hook was completed"),
    ],
)
def test_each_breach_is_found(journal: list[Written], expected: str) -> None:
    assert expected in breaches(NODE, journal, ended=True)


def test_a_swap_of_the_own_record_is_no_second_announcement() -> None:
    swap = batch(("DELETE", NODE), ("CREATE", NODE), caller=OTHER)
    assert breaches(NODE, [*JOIN, swap, *OUT, GONE], ended=True) == []


def test_each_leak_is_found() -> None:
    assert leaks((0, 0, 0, 0, 0)) == []
    words = ["records", "health checks", "queues", "subscriptions", "addresses"]
    assert leaks((1, 1, 1, 1, 1)) == [f"1 {word} left" for word in words]


def test_what_is_read_of_a_call() -> None:
    assert records_changed(WITHDRAWN) == [("DELETE", OTHER), ("CREATE", OTHER), ("DELETE", NODE)]
    assert [queue_of(call("x", text)) for text in (QUEUE, URL, END)] == [f"hafleet-lab-{NODE}"] * 3
    names = (
        "CreateHealthCheck",
        "DescribeAddresses",
        "GetChange",
        "ListQueues",
        "ReceiveMessage",
        "DeleteMessageBatch",
    )
    assert [is_write(name) for name in names] == [True, False, False, False, False, False]
