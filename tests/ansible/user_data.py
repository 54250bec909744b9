"""Stands for cloud-init on a booted node: asks IMDS, with a token, for the user data of the launch template, and becomes it."""

import os
import urllib.request
from pathlib import Path

LATEST = "http://169.254.169.254/latest"
SCRIPT = Path("/var/lib/user-data")


def ask(path: str, method: str = "GET", **headers: str) -> bytes:
    told = {f"X-aws-ec2-metadata-token{name}": text for name, text in headers.items()}
    request = urllib.request.Request(f"{LATEST}/{path}", method=method, headers=told)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def main() -> None:
    token = ask("api/token", "PUT", **{"-ttl-seconds": "60"}).decode()
    SCRIPT.write_bytes(ask("user-data", **{"": token}))
    SCRIPT.chmod(0o700)
    os.execv(SCRIPT, [str(SCRIPT)])


if __name__ == "__main__":
    main()
