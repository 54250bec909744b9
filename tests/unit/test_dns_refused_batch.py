"""A batch that Route 53 refused: what it named is looked at before the same batch counts as refused for good."""

from typing import Any

from hafleet.core.dns.model import Check
from hafleet.errors import AwsThrottled
from hafleet.ports import Dns
from tests.fakes.dns import Stage, dns_settings, iid


class OnceThrottled:
    """A port whose first look at a health check is throttled."""

    def __init__(self, inner: Dns) -> None:
        self._inner = inner
        self.looks = 0

    def check(self, check_id: str) -> Check | None:
        self.looks += 1
        if self.looks == 1:
            raise AwsThrottled("Throttling: Rate exceeded", where="route53:GetHealthCheck")
        return self._inner.check(check_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_look_at_a_lost_check_that_is_throttled_is_made_again() -> None:
    stage = Stage()
    settings = dns_settings()
    stage.registrar(1, settings).settled()
    lost = stage.leaves()[iid(1)].check
    stage.erase(iid(1))
    stage.client.delete_health_check(HealthCheckId=lost)
    port = OnceThrottled(stage.dns(settings))
    report = stage.registrar(1, settings, port).settled()  # a new process, with the disk of the old one
    assert port.looks > 1
    assert report.registered and not report.problems
    assert stage.leaves()[iid(1)].check != lost
    assert stage.checks() == (stage.leaves()[iid(1)].check,)
