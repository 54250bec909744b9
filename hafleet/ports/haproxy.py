"""The templates and the HAProxy of this node."""

from collections.abc import Sequence
from typing import Protocol

from hafleet.core.model import Desired, Installed, Rendered, Silent, Version, Worker
from hafleet.core.proxyplan import Command


class Renderer(Protocol):
    """Templates to text."""

    def render(self, desired: Desired, version: Version) -> Rendered:
        """The finished configuration for this HAProxy version.

        Raises:
            TemplateError: with the template's file and line.
        """
        ...


class Proxy(Protocol):
    """The HAProxy of this node and its files."""

    def installed(self) -> Installed:
        """The files on disk. Raises StoreError when they cannot be read."""
        ...

    def version(self) -> Version:
        """The version of the configured binary (used while no worker runs). Raises ProxyUnavailable."""
        ...

    def observe(self, map_names: Sequence[str]) -> Worker:
        """The running worker. Raises ProxyUnavailable."""
        ...

    def silent(self, reason: str) -> Silent:
        """What the master tells of a worker that ``observe`` got no answer from, for this reason.

        Raises:
            ProxyUnavailable: the master does not answer either, or has no worker.
        """
        ...

    def check(self, candidate: Rendered) -> None:
        """Put the candidate beside the live files and prove it: end mark, counts, ``haproxy -c -dW``.

        Raises:
            ConfigRejected: with HAProxy's own words and the line.
            StoreError: the disk refused.
        """
        ...

    def run(self, worker_pid: int, commands: Sequence[Command]) -> None:
        """Send runtime commands to the worker of this pid over one fresh connection, in order.

        Raises:
            UnexpectedReply: a reply is not on the command's whitelist; the rest was not sent.
            ProxyUnavailable: no answer, or another worker answered.
        """
        ...

    def install(self, candidate: Rendered) -> None:
        """Rename the checked candidate over the live files (maps first), fsynced. Raises StoreError."""
        ...

    def reload(self, candidate: Rendered, worker: Worker) -> None:
        """Test binds, install, reload gracefully, and prove by the stamp that it was loaded.

        Raises:
            ConfigRejected: a bind or local address is not available; nothing was touched.
            ReloadFailed: HAProxy refused; the loaded files are back on disk.
        """
        ...
