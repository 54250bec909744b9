from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafleet.core.mapplan import STAMP_KEY, entries, stamp
from hafleet.core.maps import map_files, map_text, paths_file, route_depths
from hafleet.errors import SettingsError
from tests.renderings import ASG, make_backend, make_settings


def content(text: str) -> dict[str, str]:
    return {key: value for key, value in entries(text).items() if key != STAMP_KEY}


def test_the_domain_maps_exist_without_any_domain() -> None:
    files = map_files(make_backend())
    assert set(files) == {"hosts.map", "hosts-wild.map", "sni.map", "sni-wild.map"}
    assert set(files.values()) == {map_text({})}
    assert map_text({}) == f"{STAMP_KEY} {sha256(b'').hexdigest()}\n"


def test_stamp_is_the_digest_of_the_sorted_entries_below_it() -> None:
    text = map_text({"b.example": "two", "a.example": "one"})
    first, _, rest = text.partition("\n")
    assert rest == "a.example one\nb.example two\n"
    assert first == f"{STAMP_KEY} {sha256(rest.encode()).hexdigest()}"
    assert stamp(text) == sha256(rest.encode()).hexdigest()


@given(*[st.dictionaries(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,4})?", fullmatch=True), st.sampled_from("abc"))] * 2)
def test_two_contents_have_one_stamp_only_when_they_are_one(one: dict[str, str], other: dict[str, str]) -> None:
    assert (stamp(map_text(one)) == stamp(map_text(other))) is (one == other)
    assert content(map_text(one)) == one


def test_domains_go_to_the_map_of_their_mode_and_kind() -> None:
    files = map_files(
        make_settings(
            backends=[
                {"name": "site", "domains": ["Example.com", "*.example.com"], "sources": ASG},
                {"name": "pass", "mode": "tcp", "domains": ["example.com", "*.b.example"], "sources": ASG},
            ]
        )
    )
    assert content(files["hosts.map"]) == {"example.com": "site"}
    assert content(files["hosts-wild.map"]) == {"example.com": "site"}
    assert content(files["sni.map"]) == {"example.com": "pass"}
    assert content(files["sni-wild.map"]) == {"b.example": "pass"}


def test_a_domain_written_twice_in_one_backend_is_one_entry() -> None:
    assert content(map_files(make_backend(domains=["a.example", "A.example."]))["hosts.map"]) == {"a.example": "site"}


def test_a_domain_of_two_backends_is_refused() -> None:
    backends = [{"name": name, "domains": ["a.example"], "sources": ASG} for name in ("one", "two")]
    with pytest.raises(
        SettingsError, match=r"backend two: error: the domain a\.example already leads to the backend one"
    ):
        map_files(make_settings(backends=backends))


def test_a_wildcard_may_have_eight_labels_and_no_more() -> None:
    deep = "*.h.g.f.e.d.c.b.a"
    assert content(map_files(make_backend(domains=[deep]))["hosts-wild.map"]) == {deep[2:]: "site"}
    with pytest.raises(SettingsError, match="more than 8 labels"):
        map_files(make_backend(domains=["*.i.h.g.f.e.d.c.b.a"]))


def frontend(*routes: dict[str, str]) -> dict[str, object]:
    return {"name": "web", "bind": ":80", "routes": list(routes)}


def test_routes_of_a_frontend_are_one_map() -> None:
    settings = make_settings(
        frontends=[
            frontend(
                {"path": "/api", "backend": "site"},
                {"host": "a.example", "path": "/x", "backend": "site"},
                {"host": "*.b.example", "path": "/y", "backend": "site"},
                {"host": "*.c.b.example", "path": "/", "backend": "site"},
                {"host": "*.d.example", "path": "/", "backend": "site"},
            ),
            {"name": "plain", "bind": ":81"},
        ]
    )
    web, plain = settings.frontends
    files = map_files(settings)
    assert paths_file(web) == "paths-web.map"
    assert sorted(content(files["paths-web.map"])) == [
        "*.b.example/y",
        "*.c.b.example/",
        "*.d.example/",
        "/api",
        "a.example/x",
    ]
    assert paths_file(plain) not in files
    assert route_depths(web.routes) == (3, 2)
    assert route_depths(plain.routes) == ()


@pytest.mark.parametrize("target", ["nobody", "pass"])
def test_a_route_to_no_http_backend_is_refused(target: str) -> None:
    backends = [{"name": "site", "sources": ASG}, {"name": "pass", "mode": "tcp", "sources": ASG}]
    with pytest.raises(SettingsError, match=f"frontend web: error: the route /api leads to {target}"):
        map_files(make_settings(frontends=[frontend({"path": "/api", "backend": target})], backends=backends))


def test_all_faults_of_routes_come_at_once() -> None:
    backends = [{"name": name, "sources": ASG} for name in ("one", "two")]
    routes = frontend(
        {"path": "/a", "backend": "one"},
        {"path": "/a", "backend": "one"},
        {"path": "/a", "backend": "two"},
        {"host": "*.i.h.g.f.e.d.c.b.a", "path": "/b", "backend": "one"},
    )
    with pytest.raises(SettingsError) as caught:
        map_files(make_settings(frontends=[routes], backends=backends))
    assert [problem.what.partition(" ")[0] for problem in caught.value.problems] == ["the", "*.i.h.g.f.e.d.c.b.a"]
