"""Ends what the lab started when the lab itself dies: ``python -S -E warden.py FOLDER``, a child of the lab.

The lab writes ``+PGID`` for a process group it started and ``-PGID`` for one that ended. When the pipe closes, by an orderly
end or because the lab was killed, every group still listed is killed and the folder is removed. A death signal set by
the children themselves would not do: it follows the thread that started them, not the process.
"""

import contextlib
import os
import shutil
import signal
import sys


def main() -> None:
    """Read until the end of the standard input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
