"""The DNS pass: observe, decide one step, do it, decide again, until nothing is left to do or it must wait.

It runs in a thread of its own and knows HAProxy only by the ``Situation`` that the last pass published: a Route 53 that hangs,
throttles or refuses can change nothing of what is served. A node that is registered stays so whatever is not known: only leaving
deregisters.

``registrar`` how the pass goes; ``looks`` when to look at what, and whose turn it is; ``carrying`` the calls, and the memory written
ahead of them; ``rehearsal`` the dry plan; ``reaper`` and ``byhand`` what dead nodes left.
"""

from hafleet.registration.carrying import DnsPorts
from hafleet.registration.registrar import Registrar

__all__ = ["DnsPorts", "Registrar"]
