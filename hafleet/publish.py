"""Where a report goes: the log, the status file and the metrics."""

import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hafleet.core.dns.report import DnsReport
from hafleet.core.endings import EndingReport
from hafleet.core.report import Report
from hafleet.errors import StoreError
from hafleet.logs import Log
from hafleet.web.metrics import Metrics

_REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def to_json(report: Report) -> bytes:
    """The report as JSON."""
    return _REPORT.dump_json(report, indent=2)


def status_path(state_dir: str) -> Path:
    """The status file of a node."""
    return Path(state_dir) / "status.json"


def read_status(path: Path) -> Report:
    """The last pass's report.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    try:
        return _REPORT.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            "no pass was reported yet", where=str(path), fix="start the agent, or run `hafleet once`"
        ) from error
    except OSError as error:
        raise StoreError(
            f"the status file cannot be read: {error.strerror}",
            where=str(path),
            fix="ask as the agent's user, or as root",
        ) from error
    except ValidationError as error:
        raise StoreError("the status file is damaged", where=str(path), fix="run `hafleet once`") from error


class Publisher:
    """Publishes each report. A fault or hold is logged when it appears and when it goes, not at every pass."""

    def __init__(self, metrics: Metrics, path: Path, log: Log) -> None:
        self._metrics = metrics
        self._path = path
        self._log = log
        self._held: frozenset[tuple[str, str]] = frozenset()
        self._faults: frozenset[str] = frozenset()
        self._dns_at = 0.0  # of the last report of the DNS side that was told
        self._dns_told: frozenset[str] = frozenset()
        self._deed_at = 0.0  # of the last deed of the hooks' side that was told
        self._life_told: frozenset[str] = frozenset()
        self._released_at = 0.0  # of the last deed of the servers' side that was told
        self._endings_told: frozenset[str] = frozenset()
        self._notices: frozenset[str] = frozenset()
        self._orders: frozenset[str] = frozenset()
        self._cuts = 0  # number of the last cut that was told

    def __call__(self, report: Report) -> None:
        """Log, count, write the status file."""
        self._metrics.record(report)
        self._tell(report)
        self._tell_orders(report)
        if report.dns is not None and report.dns.at != self._dns_at:
            self._tell_dns(report.dns)
        self._tell_life(report)
        if report.endings is not None:
            self._tell_endings(report.endings)
        self._tell_cuts(report)
        write_status(self._path, report, lambda fault: self._log.error("status file not written", fault=fault))

    def _tell(self, report: Report) -> None:
        held = frozenset((h.rule, h.subject) for h in report.held)
        for h in report.held:
            if (h.rule, h.subject) not in self._held:
                self._log.warning("held", rule=h.rule, subject=h.subject, reason=h.reason)
        for rule, subject in sorted(self._held - held):
            self._log.info("released", rule=rule, subject=subject)
        # The last number of a message (seconds, ages) changes at every pass; what stands before it names the fault.
        faults = frozenset(error.split(";")[0].rstrip("0123456789. s") for error in report.errors)
        for error in report.errors:
            if error.split(";")[0].rstrip("0123456789. s") not in self._faults:
                self._log.error("fault", fault=error)
        if self._faults and not faults:
            self._log.info("faults are over")
        for fault in sorted(self._faults - faults) if faults else ():
            self._log.info("fault is over", fault=fault)
        self._held, self._faults = held, faults
        changed = report.commands or report.wrote or report.reloaded
        self._log.log(
            logging.INFO if changed else logging.DEBUG,
            "pass",
            wake=list(report.wake),
            seconds=report.duration,
            commands=report.commands,
            wrote=report.wrote,
            reloaded=list(report.reloaded),
        )

    def _tell_dns(self, told: DnsReport) -> None:
        """What the DNS side did, and its holds and problems when they come and go."""
        self._dns_at = told.at
        for line in told.done:
            self._log.info("dns", did=line)
        holds = [f"{h.subject}: {h.reason} [{h.rule}]" for h in told.held]
        for text in (*told.problems, *holds):
            if text not in self._dns_told:
                self._log.warning("dns", problem=text)
        if self._dns_told and not told.problems and not holds:
            self._log.info("dns: nothing is held, no problem is left")
        self._dns_told = frozenset((*told.problems, *holds))

    def _tell_orders(self, report: Report) -> None:
        """What operators ordered for the fleet, when it comes and when it ends. A pass that broke off tells nothing of it."""
        if report.phase is None:
            return
        orders = frozenset(report.orders)
        for order in sorted(orders - self._orders):
            self._log.warning("order", order=order)
        for order in sorted(self._orders - orders):
            self._log.info("order is over", order=order)
        self._orders = orders

    def _tell_life(self, report: Report) -> None:
        """What EC2 announces, when it does; what the hooks' side did, and its problems when they come."""
        for line in report.notices:
            if line not in self._notices:
                self._log.warning("notice", notice=line)
        self._notices = frozenset(report.notices)
        told = report.life
        if told is None:
            return
        for deed in told.done:
            if deed.at > self._deed_at:
                self._log.info("lifecycle", did=deed.what)
        self._deed_at = max([self._deed_at, *(deed.at for deed in told.done)])
        for problem in told.problems:
            if problem not in self._life_told:
                self._log.warning("lifecycle", problem=problem)
        self._life_told = frozenset(told.problems)

    def _tell_endings(self, told: EndingReport) -> None:
        """What the servers' side did, and its problems when they come."""
        for deed in told.done:
            if deed.at > self._released_at:
                self._log.info("server hooks", did=deed.what)
        self._released_at = max([self._released_at, *(deed.at for deed in told.done)])
        for problem in told.problems:
            if problem not in self._endings_told:
                self._log.warning("server hooks", problem=problem)
        self._endings_told = frozenset(told.problems)

    def _tell_cuts(self, report: Report) -> None:
        """Connections that were cut, each time some are."""
        for cut in report.cuts:
            if cut.number > self._cuts:
                self._log.warning("connections cut", by=cut.kind, connections=cut.connections, cut=cut.sentence)
                self._cuts = cut.number


def write_status(path: Path, report: Report, on_fault: Callable[[str], None]) -> None:
    """Replace the status file. It is for people: no fsync, and a full disk costs only a log line."""
    temp = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.write_bytes(to_json(report))
        temp.rename(path)
    except OSError as error:
        on_fault(f"{path}: {error.strerror or error}")
