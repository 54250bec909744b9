from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.ids import LARGEST, server_ids


def plain(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big") % LARGEST + 1


def colliding_names() -> tuple[str, str]:
    """Two names with one hash, found by the birthday of 31 bits (some 60,000 tries)."""
    seen: dict[int, str] = {}
    for number in range(1_000_000):
        name = f"i-{number:017x}"
        other = seen.setdefault(plain(name), name)
        if other != name:
            return other, name
    raise AssertionError("no two of a million names collide")


@given(st.lists(st.text(alphabet="abcdef0123456789-", min_size=1, max_size=20), max_size=50))
def test_every_name_has_its_own_id_in_range(names: list[str]) -> None:
    ids = server_ids(names)
    assert ids.keys() == set(names)
    assert len(set(ids.values())) == len(ids)
    assert all(1 <= number <= LARGEST for number in ids.values())


@given(st.lists(st.text(alphabet="abc-0", min_size=1, max_size=20), max_size=20))
def test_order_does_not_matter(names: list[str]) -> None:
    assert server_ids(names) == server_ids(reversed(names))


def test_an_id_is_the_same_whatever_its_neighbours() -> None:
    alone = server_ids(["i-0abc"])["i-0abc"]
    assert server_ids(["i-0abc", *(f"i-{n:04x}" for n in range(500))])["i-0abc"] == alone


def test_the_ids_that_live_fleets_use_do_not_change() -> None:
    assert server_ids(["i-0123456789abcdef0", "static-10-0-9-10"]) == {
        "i-0123456789abcdef0": 1329281517,
        "static-10-0-9-10": 516261636,
    }


def test_of_two_names_that_hash_alike_the_later_moves() -> None:
    first, second = colliding_names()
    assert plain(first) == plain(second)
    ids = server_ids([second, first])
    assert ids[first] == plain(first)
    assert ids[second] == plain(f"{second}#1")
