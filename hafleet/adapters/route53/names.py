"""Domain names as Route 53 writes them: a dot at the end, and ``\\ooo`` for what is no letter, digit, hyphen, underscore or dot."""

import re

_ESCAPE = re.compile(r"\\([0-7]{3})")
_PLAIN = re.compile(r"[a-z0-9_.*-]")


def read_name(raw: str) -> str:
    """Route 53's form -> lower case, no dot at the end, escapes decoded.

    An escaped dot, backslash or unprintable byte stays escaped: decoded, it would make another name.
    """
    return _ESCAPE.sub(_decoded, raw.removesuffix(".")).lower()


def write_name(name: str) -> str:
    """A name of ours -> Route 53's form. The inverse of ``read_name``; a star needs no escape."""
    parts = re.split(r"(\\[0-7]{3})", name)  # escapes that read_name kept stand at the odd places
    return "".join(part if odd % 2 else _escaped(part) for odd, part in enumerate(parts)) + "."


def at_or_below(name: str, top: str) -> bool:
    """True when the name is this one, or lies below it."""
    return name == top or name.endswith(f".{top}")


def follows(name: str, top: str) -> bool:
    """True when a listing that began at ``top`` is past everything at it and below it.

    Names are listed by their labels from the right. Whether a label that goes on with a hyphen (``lb-2`` beside ``lb``) comes
    before or after what is below the shorter one depends on whether dots are compared, too: such a name ends nothing.
    """
    here, start = ".".join(reversed(name.split("."))), ".".join(reversed(top.split(".")))
    return not at_or_below(name, top) and not (here.startswith(start) and here[len(start)] < ".")


def _decoded(match: re.Match[str]) -> str:
    char = chr(int(match.group(1), 8))
    return char if "!" <= char <= "~" and char not in "\\." else match.group(0)


def _escaped(text: str) -> str:
    return "".join(c if _PLAIN.match(c) else "".join(f"\\{byte:03o}" for byte in c.encode()) for c in text)
