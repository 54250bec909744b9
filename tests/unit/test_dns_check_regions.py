from dataclasses import replace

import pytest

from hafleet.core.dns.checks import ALL_REGIONS, digest, normal
from hafleet.core.dns.model import CheckConfig
from hafleet.core.dns.report import DnsReport
from hafleet.core.settings import Settings
from tests.fakes.dns import Stage, dns_settings

HTTP = CheckConfig("HTTP", "203.0.113.7", 8403, "/hafleet-health", interval=10)
THREE = ("eu-west-1", "us-east-1", "us-west-2")


def test_all_regions_named_are_the_same_as_none() -> None:
    assert len(ALL_REGIONS) == 8
    named = replace(HTTP, regions=tuple(sorted(ALL_REGIONS)))
    assert normal(named) == normal(HTTP)
    assert digest(named) == digest(HTTP)


@pytest.mark.parametrize("regions", [THREE, tuple(sorted(ALL_REGIONS))[1:]])
def test_fewer_regions_are_another_check(regions: tuple[str, ...]) -> None:
    assert normal(replace(HTTP, regions=regions)) != normal(HTTP)


def test_a_check_of_all_regions_is_not_replaced_when_the_settings_name_none() -> None:
    """Route 53 may tell all eight of a check that was made without any."""
    stage = Stage()
    every = dns_settings(health={"endpoint": {"regions": sorted(ALL_REGIONS)}})
    assert registered(stage, every).registered
    (before,) = stage.checks()
    for settings in (dns_settings(), every):
        for _ in range(3):
            registered(stage, settings)
            stage.clock.at += 60
    assert stage.checks() == (before,)


def test_a_check_of_three_regions_is_replaced_when_the_settings_name_all() -> None:
    stage = Stage()
    registered(stage, dns_settings(health={"endpoint": {"regions": list(THREE)}}))
    (before,) = stage.checks()
    registered(stage, dns_settings(health={"endpoint": {"regions": sorted(ALL_REGIONS)}}))
    (after,) = stage.checks()
    assert after != before


def registered(stage: Stage, settings: Settings) -> DnsReport:
    return stage.registrar(1, settings).settled()
