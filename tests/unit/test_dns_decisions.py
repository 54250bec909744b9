"""The decisions of DNS by themselves: names, checks, shards, removals, turns. Values in, values out."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.dns import pace
from hafleet.core.dns.checks import (
    Author,
    Reference,
    digest,
    fleet_prefix,
    make_reference,
    node_label,
    read_reference,
    red_time,
    region_hash,
    wanted_checks,
    with_children,
)
from hafleet.core.dns.checksteps import adopt, clean, forget, resolve
from hafleet.core.dns.layout import Blocked, Layout, make_layout, tree_aliases
from hafleet.core.dns.model import Alias, Check, CheckConfig, CheckMemo, DnsMemory, Place, Record, Situation
from hafleet.core.dns.plan import (
    NOTHING,
    CreateCheck,
    DeleteCheck,
    Look,
    LookCheck,
    Move,
    Remember,
    Scene,
    Seen,
    Want,
    after,
    create,
    delete,
    describe,
    first,
    unread,
)
from hafleet.core.dns.removal import remove
from hafleet.core.dns.shards import deal, weights
from hafleet.core.dns.shared import repairs
from hafleet.core.dns.steps import strays
from hafleet.core.dns.want import Timing, addresses, make_want
from hafleet.core.dns_settings import DnsLimits
from hafleet.core.model import Group, Instance
from hafleet.core.settings import Settings
from tests.fakes.dns import NAME, dns_settings, edge, iid, node

ZONE_ID = "Z1"
LIMITS = DnsLimits()


def leaf(number: int | str, name: str = NAME, **changes: Any) -> Record:
    """A node's record, as it was read."""
    set_id = number if isinstance(number, str) else iid(number)
    base = Record(name, "A", set_id, 30, ("127.0.0.1",), weight=100, check=f"check-{number}", stored="{}")
    return replace(base, **changes)


def shard(number: int, **changes: Any) -> Record:
    """The alias of a shard, as it was read."""
    name = f"shard-{number:02}"
    base = Record(NAME, "A", name, alias=Alias(f"{name}.{NAME}", ZONE_ID), weight=1, stored="{}")
    return replace(base, **changes)


def want_of(settings: Settings | None = None, number: int = 1, **situation: Any) -> Want:
    settings = settings or dns_settings()
    assert settings.dns
    told = Situation(1000.0, node(number), True, False, 0.0, edge([1, 2, 3]))
    want = make_want(settings, settings.dns, replace(told, **situation), ZONE_ID, Timing(nonce="0000002a"))
    assert isinstance(want, Want)
    return want


# --- layout ---------------------------------------------------------------------------------------------------------


def layout_of(**dns: Any) -> Layout | Blocked:
    settings = dns_settings(**dns)
    assert settings.dns
    return make_layout(settings.dns, node(1), ZONE_ID)


def test_without_a_tree_leaves_stand_at_the_name() -> None:
    assert layout_of() == Layout(NAME, NAME, 1, ZONE_ID, ("A",))
    assert layout_of(families=["ipv6"], tree={"shards": 2}) == Layout(NAME, NAME, 2, ZONE_ID, ("AAAA",))


def test_shards_stand_below_the_group() -> None:
    layout = layout_of(group="a", tree={"failover": ["a", "b"], "shards": 2})
    assert isinstance(layout, Layout)
    assert layout.leaves == (f"shard-00.a.{NAME}", f"shard-01.a.{NAME}")


def test_a_group_is_named_after_region_or_zone() -> None:
    tree = {"latency": {"eu-west-1": "x-eu-west-1a-eu-west-1", "us-east-1": "us"}}
    layout = layout_of(group="x-{zone}-{region}", tree=tree)
    assert isinstance(layout, Layout) and layout.top == f"x-eu-west-1a-eu-west-1.{NAME}"


def test_a_tree_needs_a_group() -> None:
    found = layout_of(tree={"failover": ["a", "b"]})
    assert isinstance(found, Blocked) and found.what == "this node has no dns.group"


def test_a_failover_chain_is_made_of_pairs() -> None:
    settings = dns_settings(group="c", tree={"failover": ["a", "b", "c", {"geolocation": {"*": "d", "US-CA": "e"}}]})
    assert settings.dns
    found = [(r.name, r.set_id, r.alias and r.alias.target) for r in tree_aliases(settings.dns, ZONE_ID)]
    branch = f"4.failover.{NAME}"
    assert found == [
        (branch, "*", f"d.{NAME}"),
        (branch, "US-CA", f"e.{NAME}"),
        (f"chain-3.failover.{NAME}", "primary", f"c.{NAME}"),
        (f"chain-3.failover.{NAME}", "secondary", branch),
        (f"chain-2.failover.{NAME}", "primary", f"b.{NAME}"),
        (f"chain-2.failover.{NAME}", "secondary", f"chain-3.failover.{NAME}"),
        (NAME, "primary", f"a.{NAME}"),
        (NAME, "secondary", f"chain-2.failover.{NAME}"),
    ]
    layout = make_layout(settings.dns, node(1), ZONE_ID)
    assert isinstance(layout, Layout)
    assert [(r.name, r.set_id) for r in layout.path] == [
        (f"chain-3.failover.{NAME}", "primary"),
        (f"chain-2.failover.{NAME}", "secondary"),
        (NAME, "secondary"),
    ]


def test_places_are_parsed() -> None:
    places = {"*": "a", "continent-EU": "b", "DE": "c", "US-CA": "d"}
    settings = dns_settings(tree={"geolocation": places})
    assert settings.dns
    found = {r.set_id: r.place for r in tree_aliases(settings.dns, ZONE_ID)}
    assert found == {
        "*": Place(),
        "continent-EU": Place(continent="EU"),
        "DE": Place(country="DE"),
        "US-CA": Place(country="US", subdivision="CA"),
    }


@given(st.recursive(st.integers(0, 999), lambda t: st.lists(t, min_size=2, max_size=4), max_leaves=12))
def test_every_alias_of_a_tree_has_a_key_of_its_own_and_its_target_before_it(shape: Any) -> None:
    groups: list[str] = []

    def build(part: Any, depth: int) -> Any:
        if not isinstance(part, list):
            groups.append(f"g{len(groups)}")
            return groups[-1]
        children = [build(child, depth + 1) for child in part]
        kinds: tuple[Any, ...] = (
            {"failover": children},
            {"latency": {f"eu-west-{i + 1}": child for i, child in enumerate(children)}},
            {"geolocation": dict(zip(("*", "DE", "FR", "US"), children, strict=False))},
        )
        return kinds[depth % 3]

    tree = build(shape if isinstance(shape, list) else [shape, shape], 0)
    settings = dns_settings(tree=tree)
    assert settings.dns
    aliases = tree_aliases(settings.dns, ZONE_ID)
    assert len({a.key for a in aliases}) == len(aliases)
    made = {f"{group}.{NAME}" for group in groups}
    for alias in aliases:
        assert alias.alias and alias.alias.target in made
        made.add(alias.name)
    assert {a.alias.target for a in aliases if a.alias} >= {f"{group}.{NAME}" for group in groups}


# --- checks ---------------------------------------------------------------------------------------------------------


def check_of(**health: Any) -> Any:
    return [(c.slot, c.config) for c in wanted_checks(dns_settings(health=health), node(1), "A", "198.51.100.7")]


def test_the_endpoint_is_haproxys_own_health_listener_by_default() -> None:
    config = CheckConfig("HTTP", "198.51.100.7", 8403, "/hafleet-health", interval=10)
    assert check_of() == [("A/endpoint", config)]


@pytest.mark.parametrize(
    ("endpoint", "config"),
    [
        (
            {"protocol": "https", "port": 443, "path": "/x", "host": "a.test", "search": "ok", "interval": 30},
            CheckConfig("HTTPS_STR_MATCH", "198.51.100.7", 443, "/x", "a.test", "ok", sni=True),
        ),
        (
            {"protocol": "https", "host": "a.test", "sni": False, "latency": True, "threshold": 5, "inverted": True},
            CheckConfig(
                "HTTPS",
                "198.51.100.7",
                8403,
                "/hafleet-health",
                "a.test",
                interval=10,
                threshold=5,
                latency=True,
                inverted=True,
            ),
        ),
        (
            {"protocol": "tcp", "disabled": True, "regions": ["us-east-1", "eu-west-1", "sa-east-1"]},
            CheckConfig(
                "TCP", "198.51.100.7", 8403, interval=10, regions=("eu-west-1", "sa-east-1", "us-east-1"), disabled=True
            ),
        ),
    ],
)
def test_an_endpoint_is_as_the_settings_say(endpoint: dict[str, Any], config: CheckConfig) -> None:
    assert check_of(endpoint=endpoint) == [("A/endpoint", config)]


def test_a_calculated_check_counts_its_children_only() -> None:
    health = {"endpoint": {}, "alarm": {"name": "a"}, "calculated": {"children": ["alarm"], "healthy": 1}}
    found = wanted_checks(dns_settings(health=health), node(1), "AAAA", "2600::1")
    assert [check.slot for check in found] == ["AAAA/alarm", "AAAA/calculated"]
    assert with_children(found[1], {"AAAA/alarm": "b"}).children == ("b",)
    assert found[0].config.alarm_region == "eu-west-1" and found[0].config.insufficient == "Unhealthy"


def test_settings_without_dns_still_have_a_check() -> None:
    settings = dns_settings().model_copy(update={"dns": None})
    assert wanted_checks(settings, node(1), "A", "198.51.100.7")[0].config.port == 8403


@pytest.mark.parametrize(
    ("health", "seconds"),
    [
        ({}, 30),
        ({"endpoint": {"interval": 30, "threshold": 2}}, 60),
        ({"endpoint": {"disabled": True}}, 0),
        ({"endpoint": {"inverted": True}}, 0),
        ({"alarm": {"name": "a"}}, 0),
        ({"endpoint": {}, "alarm": {"name": "a"}, "calculated": {"children": ["endpoint", "alarm"]}}, 30),
    ],
)
def test_a_leaving_node_is_red_as_long_as_its_check_takes_to_see_it(health: dict[str, Any], seconds: float) -> None:
    settings = dns_settings(health=health)
    assert settings.dns and red_time(settings.dns.health) == seconds


AUTHOR = Author("edge", iid(1), "eu-west-1")


@pytest.mark.parametrize("slot", [f"{t}/{r}" for t in ("A", "AAAA") for r in ("endpoint", "alarm", "calculated")])
def test_a_reference_tells_what_it_was_made_of(slot: str) -> None:
    reference = make_reference(AUTHOR, slot, CheckConfig("TCP"), "0123456789")
    assert len(reference) <= 64
    assert reference.endswith(":01234567")
    assert read_reference(reference, "edge") == Reference(iid(1), slot, region_hash("eu-west-1"))
    assert read_reference(reference, "other") is None


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", fullmatch=True))
def test_a_reference_is_never_too_long_and_tells_two_nodes_apart(name: str) -> None:
    reference = make_reference(Author("f" * 63, name, "r" * 64), "AAAA/calculated", CheckConfig("TCP"), "x" * 40)
    assert len(reference) <= 64
    told = read_reference(reference, "f" * 63)
    assert told and told.node == node_label(name)
    assert node_label(name) != node_label(name + "x")


@pytest.mark.parametrize("rest", ["", "a:b", "i-1:9e:x:y:z", "i-1:4x:x:y:z", "i-1:4e:x:y:z:w"])
def test_a_reference_of_another_form_is_nobodys(rest: str) -> None:
    assert read_reference(fleet_prefix("edge") + rest, "edge") is None


def test_a_digest_differs_where_the_settings_do() -> None:
    one, two = CheckConfig("TCP", port=1), CheckConfig("TCP", port=2)
    assert digest(one) != digest(two)
    assert digest(CheckConfig("CALCULATED", interval=30)) == digest(CheckConfig("CALCULATED", interval=0))
    alarm = CheckConfig("CLOUDWATCH_METRIC", alarm="a")
    assert digest(alarm) == digest(replace(alarm, interval=10)) != digest(replace(alarm, alarm="b"))


# --- shards ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8), st.integers(0, 200))
def test_dealing_fills_the_emptiest_first_and_none_over_a_hundred(counts: list[int], joining: int) -> None:
    nodes = [iid(n) for n in range(joining)]
    dealt = deal(counts, nodes)
    assert len(dealt) == min(joining, sum(100 - c for c in counts))
    filled = [c + sum(s == n for s in dealt.values()) for n, c in enumerate(counts)]
    assert max(filled) <= 100
    got = [n for n in range(len(counts)) if filled[n] > counts[n]]
    assert all(filled[n] <= min(filled) + 1 for n in got)
    assert deal(counts, nodes[::-1]) == dealt


@pytest.mark.parametrize(
    ("shards", "live", "expected"),
    [
        ([[1], [2, 3]], [1, 2, 3], (127, 254)),
        ([[1], [2, 3]], [1, 2], (255, 255)),
        ([[1], [2, 3], []], [2], (0, 255, 0)),
        ([[1], [2, 3]], [], (127, 254)),
        ([[], []], [], (0, 0)),
    ],
)
def test_weights_follow_the_live_leaves(shards: list[list[int]], live: list[int], expected: tuple[int, ...]) -> None:
    found = weights([[leaf(n) for n in numbers] for numbers in shards], frozenset(map(iid, live)))
    assert found == expected


@given(st.lists(st.lists(st.integers(0, 255), max_size=100), min_size=1, max_size=100))
def test_weights_fit_and_stay_in_proportion(shards: list[list[int]]) -> None:
    records = [[leaf(n, weight=w) for n, w in enumerate(ws)] for ws in shards]
    found = weights(records, frozenset(iid(n) for n in range(100)))
    total = sum(map(sum, shards))
    for weight, ws in zip(found, shards, strict=True):
        assert 0 <= weight <= 255
        assert (weight > 0) == (sum(ws) > 0)
    if total:
        most = max(map(sum, shards))
        assert all(
            abs(w / max(found) - sum(ws) / most) <= 0.5 / max(found) or w == 1
            for w, ws in zip(found, shards, strict=True)
        )


# --- removal --------------------------------------------------------------------------------------------------------

FOREIGN = (
    Record(NAME, "A", "theirs", 30, ("127.9.9.9",), weight=1, check="c", stored="{}"),
    Record(NAME, "TXT", "", 30, ('"x"',), stored="{}"),
)


def test_a_leaf_goes_with_a_witness_that_comes_first() -> None:
    records = (leaf(1), leaf(2), leaf(3), *FOREIGN)
    found = remove(records, [leaf(3)], frozenset({iid(2)}))
    assert found.batch == (delete(leaf(2)), create(leaf(2)), delete(leaf(3)))
    assert not found.held


@pytest.mark.parametrize(("weight", "witness"), [(100, 1), (0, 2)])
def test_a_witness_without_weight_is_the_worse_one(weight: int, witness: int) -> None:
    found = remove((leaf(1, weight=weight), leaf(2), leaf(3)), [leaf(3)], frozenset())
    assert found.batch[0] == delete(leaf(witness, weight=weight if witness == 1 else 100))


def test_a_witness_whose_check_is_no_more_is_the_worst() -> None:
    found = remove((leaf(1), leaf(2), leaf(3)), [leaf(3)], frozenset({iid(1)}), frozenset({"check-1"}))
    assert found.batch[0] == delete(leaf(2))


def test_the_last_leaf_stays_whatever_others_have_there() -> None:
    found = remove((leaf(1), *FOREIGN), [leaf(1)], frozenset())
    assert found.batch == ()
    (held,) = found.held
    assert (held.rule, held.subject) == ("last_record", f"{NAME} A")


def test_nodes_without_an_ec2_id_know_each_other_by_their_checks() -> None:
    assert remove((leaf("gw-a"), leaf("gw-b")), [leaf("gw-a")], frozenset()).batch[-1] == delete(leaf("gw-a"))
    assert not remove((leaf("gw-a"), leaf("gw-b", check="")), [leaf("gw-a")], frozenset()).batch


def test_the_last_leaf_of_a_shard_takes_its_alias_with_it() -> None:
    one, two = leaf(1, f"shard-00.{NAME}"), leaf(2, f"shard-01.{NAME}")
    found = remove((one, two, shard(0), shard(1)), [two], frozenset())
    assert found.batch == (delete(shard(0)), create(shard(0)), delete(shard(1)), delete(two))


def test_a_leaf_that_no_alias_leads_to_is_the_last_of_its_name() -> None:
    assert remove((leaf(1, f"shard-00.{NAME}"), leaf(2)), [leaf(1, f"shard-00.{NAME}")], frozenset()).held


shape = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=12)


@given(shape, st.sets(st.integers(0, 3)), st.booleans())
def test_no_removal_empties_a_name_or_touches_what_is_not_ours(
    leaves: list[tuple[int, bool, bool]], roads: set[int], sharded: bool
) -> None:
    records: list[Record] = list(FOREIGN)
    gone = []
    for number, (place, going, lives) in enumerate(leaves):
        record = leaf(number if lives else 100 + number, f"shard-0{place}.{NAME}" if sharded else NAME)
        records.append(record)
        gone += [record] if going else []
    if sharded:
        filled = {place for place, _, _ in leaves}
        records += [shard(place) for place in sorted(filled & (roads | set(list(filled)[:1])))]
    found = remove(records, gone, frozenset(iid(n) for n in range(20)))
    end = after(tuple(records), found.batch)
    assert set(FOREIGN) <= set(end)
    assert not any(change.record in FOREIGN for change in found.batch)
    kept, asked = {r.key for r in end}, {r.key for r in gone}
    assert all(r.key in kept for r in records if r.key not in asked and r.alias is None)
    names = {r.name for r in end if r.set_id.startswith("i-")}
    assert all(r.alias.target in names for r in end if r.alias)
    if any(r.set_id.startswith("i-") for r in records):
        tops = [r for r in end if r.name == NAME and (r.alias or r.set_id.startswith("i-"))]
        assert tops
    deletes = [c.record for c in found.batch if c.action == "DELETE"]
    creates = [c.record for c in found.batch if c.action == "CREATE"]
    assert len({r.key for r in deletes}) == len(deletes)
    assert not deletes or creates
    assert all(record in deletes for record in creates)
    removed = {r.key for r in records} - kept
    assert (asked <= removed) or found.held


# --- turns ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 3))
def test_turns_never_pass_the_buckets(nodes: int, checks: int) -> None:
    """Every node looks at its time, and makes its calls at once at its turn: no bucket ever runs dry."""
    events: list[tuple[float, int, int]] = []  # when, calls, checks made
    for rank in range(nodes):
        events.append((pace.look_delay(LIMITS, rank, 2), 2, 0))
        events.append((pace.join_delay(LIMITS, rank, checks), pace.CALLS - 1 + checks - 1, checks))
    requests, made, last = LIMITS.requests.burst, LIMITS.create_check.burst, 0.0
    for when, calls, new in sorted(events):
        requests = min(LIMITS.requests.burst, requests + (when - last) * LIMITS.requests.rate) - calls
        made = min(LIMITS.create_check.burst, made + (when - last) * LIMITS.create_check.rate) - new
        last = when
        assert requests >= 0
        assert made >= -1e-9


def test_a_lone_node_joins_at_once() -> None:
    assert pace.turn(LIMITS, 0, 1, 0.0, 0) == 0
    assert pace.turn(LIMITS, 0, 1, pace.look_delay(LIMITS, 99, 2), 99) < 1


def test_who_looked_later_counts_those_that_went_before() -> None:
    waited = 30.0
    there = int(waited * 5 / 4) + 1
    assert pace.turn(LIMITS, 99 - there, 1, waited, there) == pytest.approx(pace.join_delay(LIMITS, 99, 1) - waited)


def test_polls_grow_apart() -> None:
    assert [pace.poll_most(n) for n in range(4)] == [5, 10, 20, 20]


# --- single rules ---------------------------------------------------------------------------------------------------


def scene_of(memory: DnsMemory, *records: Record, want: Want | None = None, **seen: Any) -> Scene:
    return Scene(want or want_of(), Seen(records, **seen), memory, 1000.0)


MEMO = CheckMemo("r", CheckConfig("TCP"))


def test_a_check_without_an_id_is_asked_for_again_unless_it_was_refused() -> None:
    memory = DnsMemory(checks={"A/endpoint": MEMO})
    assert resolve(scene_of(memory)) == Move(CreateCheck("A/endpoint", MEMO))
    refused = replace(memory, refused={f"check {MEMO.config!r}": "no"})
    assert resolve(scene_of(refused)) == Move(Remember(replace(refused, checks={})))


def test_regions_are_compared_only_where_the_settings_name_them() -> None:
    chosen = CheckConfig("TCP", regions=("eu-west-1", "sa-east-1", "us-east-1"))
    memory = DnsMemory(checks={"A/endpoint": CheckMemo("r", CheckConfig("TCP"), "c")})
    assert resolve(scene_of(memory, checks={"c": Check("c", "r", chosen)})) == NOTHING
    named = replace(memory, checks={"A/endpoint": CheckMemo("r", chosen, "c")})
    found = resolve(scene_of(named, checks={"c": Check("c", "r", CheckConfig("TCP"))})).step
    assert isinstance(found, Remember) and found.memory.checks["A/endpoint"].config.regions == ()


def test_a_second_check_of_a_slot_is_an_old_one() -> None:
    reference = make_reference(AUTHOR, "A/endpoint", MEMO.config, "0")
    memory = DnsMemory(checks={"A/endpoint": replace(MEMO, id="new")})
    mine = leaf(1, check="old")
    assert adopt(scene_of(memory, mine)) == Move(LookCheck("old"))
    looked = scene_of(memory, mine, checks={"old": Check("old", reference, MEMO.config)})
    assert adopt(looked) == Move(Remember(replace(memory, old_checks=("old",))))
    assert adopt(scene_of(memory, mine, checks={"old": None})) == NOTHING
    theirs = make_reference(replace(AUTHOR, node=iid(2)), "A/endpoint", MEMO.config, "0")
    assert adopt(scene_of(memory, mine, checks={"old": Check("old", theirs, MEMO.config)})) == NOTHING


def test_checks_that_are_not_wanted_any_more_are_forgotten_the_calculated_one_first() -> None:
    memo = replace(MEMO, id="e")
    memory = DnsMemory(
        checks={"A/endpoint": memo, "AAAA/alarm": replace(MEMO, id="a"), "AAAA/calculated": replace(MEMO, id="c")},
        old_checks=("o",),
    )
    assert forget(scene_of(memory)) == Move(
        Remember(replace(memory, checks={"A/endpoint": memo}, old_checks=("c", "a", "o")))
    )


def test_a_check_of_a_record_whose_address_is_not_known_is_kept() -> None:
    want = want_of(dns_settings(families=["ipv6"]), node=replace(node(1), ipv6=None))
    memory = DnsMemory(checks={"AAAA/endpoint": replace(MEMO, id="e")})
    assert forget(scene_of(memory, want=want)) == NOTHING


def test_a_used_check_is_not_deleted() -> None:
    memory = DnsMemory(old_checks=("used", "free"))
    assert clean(scene_of(memory, leaf(2, check="used"))) == Move(Look())
    assert clean(scene_of(memory, leaf(2, check="used"), fresh=True)) == Move(DeleteCheck("free"))
    assert clean(scene_of(replace(memory, change="C1"), fresh=True)) == NOTHING
    assert clean(scene_of(replace(memory, old_checks=("used",)), leaf(2, check="used"), fresh=True)) == NOTHING


def test_strays_wait_for_a_look_at_everything() -> None:
    elsewhere = leaf(1, f"shard-00.{NAME}")
    assert strays(scene_of(DnsMemory(), leaf(1), elsewhere)) == Move(Look())


def test_a_leader_of_an_empty_group_makes_no_aliases() -> None:
    want = want_of(dns_settings(tree={"shards": 2}))
    assert want.leads
    assert repairs(want, Seen(fresh=True, repair=True), "A") == ()


def test_the_first_step_takes_the_notes_before_it_along() -> None:
    note = Move(blocked=(Blocked("x"),))
    assert first([note, Move(Look()), Move(LookCheck("never"))]) == Move(Look(), blocked=(Blocked("x"),))
    assert first([]) == NOTHING


def test_a_batch_in_words_tells_witnesses_from_changes() -> None:
    plain = Record(NAME, "A", ttl=5, values=("127.0.0.1",), stored="{}")
    batch = (
        *(delete(leaf(1)), create(leaf(1))),
        delete(leaf(2)),
        create(leaf(2, weight=1)),
        create(shard(0)),
        delete(plain),
    )
    assert describe(batch) == (
        f"witness {NAME} A [{iid(1)}] 127.0.0.1 weight 100 ttl 30 check check-1",
        f"change {NAME} A [{iid(2)}] 127.0.0.1 weight 1 ttl 30 check check-2",
        f"create {NAME} A [shard-00] -> shard-00.{NAME} weight 1",
        f"delete {NAME} A 127.0.0.1 ttl 5",
    )
    assert unread((delete(replace(plain, stored="")),)) and not unread(batch)


# --- want -----------------------------------------------------------------------------------------------------------


def test_addresses_are_as_the_settings_choose() -> None:
    settings = dns_settings(address="private")
    assert settings.dns
    assert addresses(settings.dns, node(1)) == {"A": "127.1.0.2", "AAAA": "2600:1f18::2"}
    six = replace(node(1), address=node(1).ipv6 or node(1).address, ipv6=None)
    assert addresses(settings.dns, six) == {}


def test_the_lowest_in_service_leads_its_own_leaf_group() -> None:
    assert want_of(number=1).leads and not want_of(number=2).leads
    assert not want_of(number=1, group=None).leads
    zones = Group(
        "edge", 2, (Instance(iid(1), "InService", "b", None), Instance(iid(2), "InService", "eu-west-1a", None))
    )
    settings = dns_settings(group="{zone}", tree={"failover": ["eu-west-1a", "b"]})
    want = want_of(settings, 2, group=zones)
    assert want.leads and want.members == {iid(2)}


@pytest.mark.parametrize(
    ("red_since", "leave_at"),
    [(990.0, 1020.0), (5000.0, 1030.0), (0.0, 1090.0)],
    ids=["red", "clock went back", "never"],
)
def test_a_leaving_node_waits_for_its_check(red_since: float, leave_at: float) -> None:
    settings = dns_settings()
    assert settings.dns
    told = Situation(1000.0, node(1), True, True, red_since, None)
    want = make_want(settings, settings.dns, told, ZONE_ID, Timing(left_at=1000.0))
    assert isinstance(want, Want) and want.leave_at == leave_at
