"""One runtime command: its text, and by which whitelist its reply is judged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One line for the Runtime API, and the kind (``replies.GOOD``) that its reply must fit."""

    text: str
    kind: str
