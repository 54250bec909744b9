"""Regular expressions over host names, and the names they come down to."""

import random
import re

import pytest

from hafleet.core.hostregex import MOST, covered, names_of, patterns_of
from hafleet.core.values import Refusal

SAME: dict[str, tuple[str, ...]] = {
    r"^www\.example\.com$": ("www.example.com",),
    r"^(www\.)?example\.com$": ("example.com", "www.example.com"),
    r"^(?:shop|www)\.example\.com$": ("shop.example.com", "www.example.com"),
    r"^a\.com$|^b\.com$": ("a.com", "b.com"),
    r"^(a|b|a)\.com$": ("a.com", "b.com"),
    r"\.example\.com$": ("*.example.com",),
    r".*\.example\.com$": ("*.example.com",),
    r"^.*?\.example\.com$": ("*.example.com",),
    r"^.+\.example\.com$": ("*.example.com",),
    r"^[^/]+\.example\.com$": ("*.example.com",),
    r"^[a-z.-]+\.example\.com$": ("*.example.com",),
    r"^(.*\.)?example\.com$": ("example.com", "*.example.com"),
    r"^([a-z0-9-]+\.)*example\.com$": ("example.com", "*.example.com"),
    r"^([a-z0-9-]+\.)+example\.com$": ("*.example.com",),
    r"^([^.]+\.){1,}example\.com$": ("*.example.com",),
    r"^shop[1-3]\.example\.com$": ("shop1.example.com", "shop2.example.com", "shop3.example.com"),
    r"^[ab]{2}\.com$": ("aa.com", "ab.com", "ba.com", "bb.com"),
    r"^w{3}\.x\.com$": ("www.x.com",),
    r"^w{2,3}\.x\.com$": ("ww.x.com", "www.x.com"),
    r"^[\w]\.com$": tuple(f"{char}.com" for char in "0123456789_abcdefghijklmnopqrstuvwxyz"),
    r"^[Ab]\.com$": ("a.com", "b.com"),
    r"^s\d\.com$": tuple(f"s{digit}.com" for digit in range(10)),
    r"^example\.com(:\d+)?$": ("example.com",),
    r"^example\.com(?::[0-9]+)?$": ("example.com",),
    r"(?i)^Example\.COM$": ("example.com",),
    r"-i ^a\.com$ ^b\.com$": ("a.com", "b.com"),
    r"^a\\.com$": ("a.com",),
    r"^m[u]nchen\.example$": ("munchen.example",),
    r"^localhost$": ("localhost",),
}
DRIFT: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "admin.acme.com": (("admin.acme.com", "*.admin.acme.com"), {"dots", "start", "end"}),
    ".example.com": (("*.example.com",), {"dots", "end"}),
    r"example\.com$": (("example.com", "*.example.com"), {"start"}),
    r"^example\.com": (("example.com",), {"end"}),
    r"^example\.com.*$": (("example.com",), {"end"}),
    r"^.*example\.com$": (("example.com", "*.example.com"), {"start"}),
    r"^[^.]+\.example\.com$": (("*.example.com",), {"depth"}),
    r"^[^.]*\.example\.com$": (("*.example.com",), {"depth"}),
    r"^\w+\.example\.com$": (("*.example.com",), {"depth"}),
}
UNCLEAR = [
    r"^shop",
    r"shop\..*",
    r"^shop\.",
    r"^example\.com\.$",
    "^?a$",
    "a$?",
    r"^shop.*\.example\.com$",
    r"^shop-[a-z]+\.example\.com$",
    r"^[a-z]+-shop\.example\.com$",
    r"^sho.?p\.example\.com$",
    r"^a.{2}\.com$",
    r"^[^a]\.com$",
    r"^ab+\.com$",
    r"^(ab)+\.com$",
    r"^[[:alpha:]]\.com$",
    r"(?=a)a\.com",
    r"\bexample\.com",
    r"^a\.b$c\.d$",
    r"^\w\w\.com$",
    r"^(|a)$",
    r"a..b.c",
    "(?",
    "a**",
    "a{b}",
    r"^ex_ample\.c/om$",
    "",
    "-i",
    "-f /etc/names",
]
MALFORMED = ["(a", "a)", "*a", "a|+b", "[a", "[z-a]", "[a-", "a{3,1}", "a\\", ".**"]


@pytest.mark.parametrize(("pattern", "names"), SAME.items())
def test_an_expression_that_is_a_list_of_names(pattern: str, names: tuple[str, ...]) -> None:
    found = names_of(pattern)
    assert (found.domains, found.drifts) == (names, frozenset())
    for name in names:
        probe = name.replace("*", "any-name")
        assert any(re.search(each, probe, re.IGNORECASE) for each in patterns_of(pattern))


@pytest.mark.parametrize(("pattern", "expected"), DRIFT.items())
def test_an_expression_that_matched_other_names_too(pattern: str, expected: tuple[tuple[str, ...], set[str]]) -> None:
    found = names_of(pattern)
    assert (found.domains, set(found.drifts)) == expected


@pytest.mark.parametrize("pattern", UNCLEAR)
def test_an_expression_that_is_no_list_of_names(pattern: str) -> None:
    with pytest.raises(Refusal) as caught:
        names_of(pattern)
    assert caught.value.fix
    assert "HAProxy refuses it" not in caught.value.fix


@pytest.mark.parametrize("pattern", MALFORMED)
def test_what_haproxy_would_refuse(pattern: str) -> None:
    with pytest.raises(Refusal, match=r"is no regular expression: .*HAProxy refuses it, too"):
        names_of(pattern)


def test_names_without_drift_are_just_what_the_expression_matches() -> None:
    chance = random.Random(7)
    labels = ("a", "b", "aa", "ab", "shop", "com", "0", "a-b", "other")
    names = [".".join(chance.choices(labels, k=chance.randint(1, 4))) for _ in range(200)]
    pieces = [
        r"a",
        r"b",
        r"shop",
        r"com",
        r"\.",
        r"\.",
        r"\.",
        r"(",
        r")",
        r"(?:",
        r"|",
        r"?",
        r"*",
        r"+",
        r"^",
        r"$",
        r"[ab]",
        r"[^.]",
        r"[a-c]",
        r"{2}",
        r"{1,2}",
        r"\d",
        r"-",
        r".*",
        r".*\.",
        r"([^.]+\.)*",
        r"[^/]+",
        r"\-",
    ]
    exact = 0
    for _ in range(4_000):
        pattern = f"^{''.join(chance.choices(pieces, k=chance.randint(2, 8)))}$"
        try:
            found = names_of(pattern)
        except Refusal:
            continue
        matches = re.compile(pattern).search  # what is taken is an expression
        if not found.drifts:
            exact += 1
            assert [name for name in names if matches(name)] == [name for name in names if covered(name, found.domains)]
    assert exact > 60


def test_the_list_stays_readable() -> None:
    assert len(names_of(r"^\d\d\.com$").domains) == MOST
    with pytest.raises(Refusal, match=f"means more than {MOST} names"):
        names_of(r"^(\d\d|xx)\.com$")
    with pytest.raises(Refusal, match=f"means more than {MOST} names"):
        names_of(r"^\d{1,60}\.com$")


@pytest.mark.parametrize(
    ("domain", "by", "expected"),
    [
        ("a.com", ["a.com"], True),
        ("a.com", ["*.com"], True),
        ("a.b.com", ["*.com"], True),
        ("a.com", ["*.a.com"], False),
        ("*.a.com", ["*.a.com"], True),
        ("*.a.com", ["*.com"], True),
        ("*.a.com", ["a.com"], False),
        ("a.com", [], False),
    ],
)
def test_covered(domain: str, by: list[str], expected: bool) -> None:
    assert covered(domain, by) is expected
