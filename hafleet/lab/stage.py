"""What every chapter of the demo's story plays on."""

from collections.abc import Callable
from dataclasses import dataclass

from hafleet.lab.fleet import Lab
from hafleet.lab.traffic import Traffic

SETTLE = 30.0  # the longest that following one change may take


class StoryError(Exception):
    """The fleet did not do what it should; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a chapter plays on."""

    lab: Lab
    traffic: Traffic
    say: Callable[[str], None]
    restart_clock: Callable[[], None]  # the change that the fleet has to follow happens now
    converged: Callable[[], None]  # the fleet has followed
    dns_took: Callable[[float], None]  # DNS has followed, so many seconds after the change
    meanwhile: Callable[
        [], None
    ]  # plays the chapters that happen while this one waits; once, and only where it has some

    def follow(self) -> None:
        """Wait until every node in service serves exactly what it should, and stop the chapter's clock."""
        self.lab.wait_converged(SETTLE, joined=True)
        self.converged()

    def in_service(self, group: str, count: int) -> None:
        """Wait until AWS counts so many instances of the group as InService."""
        self.lab.wait_until(
            lambda: len(self.lab.members(group)) == count, SETTLE, f"{count} instances of {group} in service"
        )

    def gone(self, group: str, count: int) -> None:
        """Wait until the group has just so many instances, and none that leaves."""
        self.lab.wait_until(
            lambda: len(self.lab.members(group, in_service=False)) == count, SETTLE, f"the others of {group} to be gone"
        )

    def texts(self) -> dict[str, bytes]:
        """Installed configuration by node."""
        return {node.id: node.config.read_bytes() for node in self.lab.nodes}


@dataclass(frozen=True, slots=True)
class Chapter:
    """One step of the demo. What is sent and lost while another one plays inside it is counted there alone."""

    name: str
    play: Callable[[Stage], str]
    may_lose: str = ""  # why requests are lost here whatever anybody does; "": none may be
    meanwhile: tuple["Chapter", ...] = ()  # play while this one waits

    @property
    def played(self) -> tuple["Chapter", ...]:
        """Those that play within this one, and then itself: the order in which they end."""
        return (*(chapter for other in self.meanwhile for chapter in other.played), self)
