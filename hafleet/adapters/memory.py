"""Memory that nobody uses any more, given back to the system."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Let the C library return the free pages inside its heap. Takes a millisecond or two.

    A pass over 1,000 instances reads megabytes of XML; glibc keeps what is free again for later use. Other C libraries have
    no such call, and nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
