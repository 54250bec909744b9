"""The rules that concern several settings at once. Each rule is a generator of findings; ``check`` runs them all."""

from collections.abc import Iterator

from hafleet.core.checks import backends, dns, dns_health, dns_tree, listeners, rest, routes
from hafleet.core.checks.finding import Finding
from hafleet.core.settings import Settings

__all__ = ["Finding", "check"]

DNS = (*dns.RULES, *dns_tree.RULES, *dns_health.RULES)
RULES = (*listeners.RULES, *routes.RULES, *backends.RULES, *DNS, *rest.RULES)


def check(settings: Settings) -> tuple[Finding, ...]:
    """Every finding of every rule, in the order of the rules; fatal ones and warnings."""

    def findings() -> Iterator[Finding]:
        for rule in RULES:
            yield from rule(settings)

    return tuple(findings())
