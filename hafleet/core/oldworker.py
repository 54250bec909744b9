"""What is seen of a worker of an earlier load, which lives on for the connections that it had: a word of the model, kept apart."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OldWorker:
    """One of them. It takes no new connection, and no command changes it (`Proxy is disabled.` on 2.6.12, 3.0.11, 3.2.26)."""

    pid: int
    loads: int  # since it was started itself; the youngest has 1
    age: float  # seconds since a reload replaced it, as far as the workers that are left tell
    sessions: Mapping[tuple[str, str], int] | None  # by (backend, server), where there are any; None: it did not answer
