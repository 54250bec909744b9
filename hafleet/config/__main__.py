"""``python -m hafleet.config docs/settings.md``: write the reference page."""

import sys
from pathlib import Path

from hafleet.config.reference import markdown

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
