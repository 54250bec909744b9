"""Certificates are part of the structure: a renewed one is loaded, an untouched one costs nothing."""

import os
from pathlib import Path

from hafleet.adapters.templates import JinjaRenderer
from hafleet.checking import sample
from hafleet.core.cfgtext import parse
from hafleet.core.settings import Settings
from hafleet.core.used_files import used_files


def settings(folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "fleet": "edge",
            "peers": {"tls": {"cert": f"{folder}/peer.pem", "ca": f"{folder}/ca.pem"}},
            "frontends": [
                {"name": "web", "bind": ":443", "default_backend": "site", "tls": {"cert": f"{folder}/certs"}},
                {"name": "plain", "bind": ":80", "default_backend": "site"},
            ],
            "backends": [
                {"name": "site", "sources": [{"asg": "a"}], "tls": {"ca": f"{folder}/upstream.pem"}},
                {"name": "system", "sources": [{"asg": "a"}], "tls": {}, "domains": ["a.example.com"]},
                {"name": "trusting", "sources": [{"asg": "a"}], "tls": {"verify": False}, "domains": ["b.example.com"]},
                {"name": "clear", "sources": [{"asg": "a"}], "domains": ["c.example.com"]},
            ],
        }
    )


def test_the_files_of_the_settings() -> None:
    assert used_files(settings(Path("/t"))) == ("/t/ca.pem", "/t/certs", "/t/peer.pem", "/t/upstream.pem")
    plain = {"fleet": "e", "frontends": [{"name": "w", "bind": ":80", "default_backend": "s"}]}
    assert used_files(Settings.model_validate({**plain, "backends": [{"name": "s", "sources": [{"asg": "a"}]}]})) == ()


def test_a_renewed_certificate_changes_the_structure_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    for name in ("peer.pem", "ca.pem", "upstream.pem", "certs/a.pem", "certs/b.pem"):
        (tmp_path / name).write_text(f"first {name}")
    made = settings(tmp_path)
    renderer = JinjaRenderer(made, source="t", digest="0")

    def structure() -> str:
        return parse(renderer.render(sample(made), (3, 0, 11)).text).structure

    seen = [structure()]
    os.utime(tmp_path / "peer.pem", (1, 1))  # touched, not changed
    assert structure() == seen[0]
    for name in ("peer.pem", "upstream.pem", "certs/b.pem"):
        (tmp_path / name).write_text(f"renewed {name}")
        seen.append(structure())
    (tmp_path / "certs" / "c.pem").write_text("new")
    seen.append(structure())
    (tmp_path / "ca.pem").unlink()
    seen.append(structure())
    assert len(set(seen)) == 6
    assert structure() == seen[-1]
