"""The exception tree. Every message says what failed, where, and what to do next.

    HafleetError
    ├── SettingsError        bad hafleet.yaml or template variables; holds every problem at once   exit 2
    ├── LockHeld             another agent works on this node                                      exit 75
    ├── SourceUnavailable    a read of the outside world failed or was partial: becomes Unknown
    │   ├── AwsDenied        credentials missing, expired or not allowed
    │   ├── AwsThrottled     the API told us to slow down
    │   │   └── ZoneBusy     Route 53 still works on an earlier change of the zone (PriorRequestNotComplete)
    │   └── MetadataUnavailable  IMDS did not answer
    ├── TemplateError        a template does not render; holds file and line
    ├── ConfigRejected       `haproxy -c`, a bind test or our own count refused the candidate
    ├── ProxyUnavailable     a socket of HAProxy is missing, refuses, hangs or talks nonsense
    │   └── UnexpectedReply  a runtime command was answered by a text that is not on its whitelist
    ├── ChangeRefused        Route 53 refused a change batch for what it says (InvalidChangeBatch): the same again is no use
    ├── CheckTaken           a health check's CallerReference was used before, for other settings or a deleted check
    ├── HookGone             there is no lifecycle action to complete or to prolong: done, timed out, or the hook was deleted
    ├── CheckInUse           a health check cannot be deleted, for another check or record needs it
    ├── ReloadFailed         HAProxy did not load the installed file; the loaded text was put back
    └── StoreError           the state directory cannot be read or written
        └── StateCorrupt     a state file fails its checksum, belongs to another node or to a later version

Adapters raise these with ``from``; only ``agent`` and ``cli`` catch them for good, and ``reconcile`` turns a
``SourceUnavailable`` into an ``Unknown``.
"""

from dataclasses import dataclass


class HafleetError(Exception):
    """Root of everything hafleet raises on purpose.

    Args:
        what: what failed, one sentence without a full stop.
        where: file, file:line, socket, API call or address it happened at; may be empty.
        fix: what the operator can do next; may be empty.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(self.render())

    def render(self) -> str:
        """One line: ``where: what; fix``, leaving out what is empty."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.fix}" if self.fix else head


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in the settings. ``where`` is ``file:line``; ``fatal`` is False for a warning."""

    where: str
    what: str
    fix: str = ""
    fatal: bool = True

    def render(self) -> str:
        """``file:line: error|warning: what; fix``."""
        kind = "error" if self.fatal else "warning"
        tail = f"; {self.fix}" if self.fix else ""
        return f"{self.where}: {kind}: {self.what}{tail}"


class SettingsError(HafleetError):
    """The settings cannot be used. Holds every problem found, in file order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(p.render() for p in problems) or "the settings are not usable")


class LockHeld(HafleetError):
    """Another agent holds this node's lock."""


class SourceUnavailable(HafleetError):
    """A read of the outside world failed, or came back partial. Never means empty."""


class AwsDenied(SourceUnavailable):
    """AWS refused the caller: no, expired or too narrow credentials."""


class AwsThrottled(SourceUnavailable):
    """AWS told the caller to slow down, after the SDK's own retries."""


class ZoneBusy(AwsThrottled):
    """Route 53 still works on an earlier change of this zone."""


class MetadataUnavailable(SourceUnavailable):
    """IMDS did not answer as IMDSv2 should."""


class TemplateError(HafleetError):
    """A template cannot be read or does not render."""


class ConfigRejected(HafleetError):
    """The candidate configuration must not be loaded; the live file was not touched."""


class ProxyUnavailable(HafleetError):
    """A socket of HAProxy is missing, refuses, hangs or answers nonsense."""


class UnexpectedReply(ProxyUnavailable):
    """A runtime command was answered by a text that is not on its whitelist."""


class ReloadFailed(HafleetError):
    """HAProxy did not load the installed file."""


class StoreError(HafleetError):
    """The state directory, or a file hafleet owns, cannot be read or written."""


class StateCorrupt(StoreError):
    """A state file fails its checksum, is of another node, or of a later version."""


class ChangeRefused(HafleetError):
    """Route 53 refused a change batch as it stands; nothing of it was applied."""


class CheckTaken(HafleetError):
    """The CallerReference of a new health check was used before, for other settings or for a check since deleted."""


class CheckInUse(HafleetError):
    """The health check is still needed by another one."""


class HookGone(HafleetError):
    """There is no lifecycle action of this hook for this instance any more: completed, timed out, or the hook was deleted."""


class AddressTaken(HafleetError):
    """An Elastic IP was associated with another instance meanwhile."""
