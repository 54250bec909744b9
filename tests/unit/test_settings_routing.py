"""Which way requests can take: the mode of a backend, and what a frontend routes by."""

import pytest

from hafleet.core.checks import RULES, check
from hafleet.core.settings import Frontend, Settings

SOURCES = [{"static": ["10.0.0.1"]}]
WEB: dict[str, object] = {"name": "web", "bind": ":80"}
TLS: dict[str, object] = {"name": "tls", "bind": ":443", "mode": "tcp"}


def settings(frontends: list[dict[str, object]], **backend: object) -> Settings:
    site = {"name": "site", "sources": SOURCES, **backend}
    return Settings.model_validate({"fleet": "edge", "frontends": frontends, "backends": [site]})


@pytest.mark.parametrize(
    ("frontends", "backend", "mode"),
    [
        ([WEB], {}, "http"),  # nobody reaches it
        ([WEB | {"default_backend": "site"}], {}, "http"),
        ([TLS | {"default_backend": "site"}], {}, "tcp"),
        ([TLS | {"default_backend": "site"}], {"mode": "http"}, "http"),
        ([WEB | {"default_backend": "site"}], {"mode": "tcp"}, "tcp"),
        ([WEB | {"default_backend": "site"}, TLS | {"default_backend": "site"}], {}, "http"),
        ([TLS | {"route_by": "sni"}], {"domains": ["a.com"]}, "tcp"),
        ([TLS], {"domains": ["a.com"]}, "http"),  # the frontend looks at no name
        ([WEB, TLS | {"route_by": "sni"}], {"domains": ["a.com"]}, "http"),
        ([WEB | {"route_by": "none"}, TLS | {"route_by": "sni"}], {"domains": ["a.com"]}, "tcp"),
        ([WEB | {"route_by": "none", "routes": [{"path": "/a", "backend": "site"}]}], {}, "http"),
        ([WEB, TLS | {"default_backend": "site"}], {}, "tcp"),
    ],
)
def test_a_backend_is_tcp_if_only_tcp_frontends_reach_it(
    frontends: list[dict[str, object]], backend: dict[str, object], mode: str
) -> None:
    assert settings(frontends, **backend).backend_mode("site") == mode


def test_an_unknown_backend_has_no_mode() -> None:
    with pytest.raises(KeyError):
        settings([WEB]).backend_mode("other")


@pytest.mark.parametrize(
    ("frontend", "way"),
    [
        (WEB, "host"),
        (TLS, "none"),
        (TLS | {"route_by": "sni"}, "sni"),
        (WEB | {"route_by": "none"}, "none"),
    ],
)
def test_what_a_frontend_routes_by(frontend: dict[str, object], way: str) -> None:
    assert settings([frontend]).frontend_route(Frontend.model_validate(frontend)) == way


def test_looking_at_modes_does_not_change_what_settings_equal() -> None:
    one, other = settings([WEB]), settings([WEB])
    assert one.backend_mode("site") == "http"
    assert one == other


def test_every_rule_holds_on_a_fleet_without_faults() -> None:
    good = settings([WEB | {"default_backend": "site"}])
    assert [finding.what for finding in check(good) if finding.fatal] == []
    assert len({rule.__qualname__ + rule.__module__ for rule in RULES}) == len(RULES)
