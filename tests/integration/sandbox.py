"""Run a command under the system call rules of a systemd unit, without systemd: ``python sandbox.py UNIT COMMAND...``.

Reads SystemCallFilter=, SystemCallErrorNumber= and MemoryDenyWriteExecute= as systemd.exec(5) describes them, loads them through
libseccomp, and becomes the command. Groups of calls are expanded by ``systemd-analyze syscall-filter``.
"""

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # seccomp.h
MASKED_EQUAL = 7
WRITE, EXECUTE = 2, 4  # PROT_WRITE, PROT_EXEC
PROTECTION = 2  # the number of that argument in mmap and mprotect


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64))


def read_unit(path: Path) -> dict[str, list[str]]:
    """Every value of every key, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def expand(name: str) -> frozenset[str]:
    """The calls of a group such as ``@system-service``."""
    if not name.startswith("@"):
        return frozenset({name})
    said = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    lines = (line.strip() for line in said.stdout.splitlines()[1:])
    return frozenset().union(*(expand(line) for line in lines if line and not line.startswith("#")))


def allowed(lines: list[str]) -> frozenset[str]:
    """What is left after an allow list and the deny lists behind it; systemd always adds @default."""
    calls = expand("@default")
    for line in lines:
        deny = line.startswith("~")
        for name in line.removeprefix("~").split():
            calls = calls - expand(name) if deny else calls | expand(name)
    return calls


class Filter:
    """One seccomp filter of libseccomp."""

    def __init__(self, default: int) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2")
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, mask: int = 0) -> None:
        """Add a rule; with a mask, only for a memory protection that holds all its bits."""
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # not on this machine
        tests = (_Comparison * 1)(_Comparison(PROTECTION, MASKED_EQUAL, mask, mask))
        bad = self._lib.seccomp_rule_add_array(self._context, ctypes.c_uint32(action), number, int(mask > 0), tests)
        if bad:
            raise OSError(-bad, f"seccomp rule for {call}")

    def load(self) -> None:
        """Put it in force for this process and all that it starts."""
        bad = self._lib.seccomp_load(self._context)
        if bad:
            raise OSError(-bad, "seccomp_load")


def main(unit: Path, command: list[str]) -> None:
    """Load the rules and become the command."""
    service = read_unit(unit)
    number = (service.get("SystemCallErrorNumber") or [""])[-1]
    filters = []
    calls = Filter(ERROR | getattr(errno, number) if number else KILL)
    for name in allowed(service["SystemCallFilter"]) | {"execve"}:  # systemd itself needs it for its last step
        calls.rule(ALLOW, name)
    filters.append(calls)
    if (service.get("MemoryDenyWriteExecute") or ["no"])[-1] == "yes":
        memory = Filter(ALLOW)
        memory.rule(ERROR | errno.EPERM, "mmap", WRITE | EXECUTE)
        memory.rule(ERROR | errno.EPERM, "mprotect", EXECUTE)
        filters.insert(0, memory)
    for one in filters:
        one.load()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
