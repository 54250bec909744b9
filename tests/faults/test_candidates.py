"""Rows 39, 40 and 43: templates and candidates that are wrong, and words of HAProxy that are no UTF-8."""

import dataclasses

import jinja2
import pytest

from hafleet.adapters.haproxy import HaproxyProxy
from hafleet.adapters.haproxy.candidate import Checker
from hafleet.adapters.templates import JinjaRenderer
from hafleet.core.model import Desired, Rendered, Version, Worker
from hafleet.errors import ConfigRejected
from hafleet.ports import Renderer
from hafleet.reconcile import Outcome, Plan, Ports, Reconciler
from tests.faults.stage import Stage

pytestmark = pytest.mark.xdist_group("faults-candidates")

MAIN = "haproxy.cfg.j2"
HEAD = '{% extends "shipped/haproxy.cfg.j2" %}\n{% block extra %}\n'
GOOD = HEAD + "backend fresh\n    mode http\n{% endblock %}\n"

# --- row 39 -----------------------------------------------------------------------------------------------------------

BROKEN = {
    "syntax": (HEAD + "{% endblok %}\n", 3, "endblok"),
    "undefined": (HEAD + "# {{ fleet_nmae }}\n{% endblock %}\n", 3, "fleet_nmae"),
    "no attribute": (HEAD + "# {{ node.adress }}\n{% endblock %}\n", 3, "adress"),
    "not there": (HEAD + '{% include "partials/none.j2" %}\n{% endblock %}\n', 3, "none.j2"),
    "a fault of its own": (HEAD + "{{ 1 // 0 }}\n{% endblock %}\n", 3, "division"),
    "not for HAProxy": (HEAD + "    no such directive\n{% endblock %}\n", 0, "no such directive"),
}


def test_f39_a_broken_template_is_named_by_file_and_line_and_the_old_text_serves(stage: Stage) -> None:
    stage.boot({"asg": stage.group(2)})
    before = stage.picture()
    for name, (text, line, word) in BROKEN.items():
        stage.log.entries.clear()
        (stage.templates / MAIN).write_text(text)
        report = stage.turn()
        place = f"{stage.templates / MAIN}:{line}" if line else f"{stage.config}.candidate:"
        assert any(place in error and word in error for error in report.errors), (name, report.errors)
        assert stage.picture() == before
        assert stage.healthy()
        assert stage.metric("errors") == 1
        assert stage.said("'event': 'fault'", word)
    (stage.templates / MAIN).write_text(GOOD)
    report = stage.turn()  # nobody had to help it
    assert (report.errors, bool(report.reloaded)) == ((), True)


def test_f39_control_a_lenient_engine_writes_what_nobody_meant(stage: Stage) -> None:
    stage.boot({"asg": stage.group(2)})
    before = stage.picture()
    (stage.templates / MAIN).write_text(HEAD + "backend {{ fleet_nmae }}x\n    mode http\n{% endblock %}\n")
    stage.ports = _lenient
    stage.birth()
    assert stage.turn().reloaded
    assert stage.picture().text != before.text


def _lenient(ports: Ports) -> Ports:
    assert isinstance(ports.renderer, JinjaRenderer)
    ports.renderer._environment.undefined = jinja2.Undefined
    return ports


# --- row 40 -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Cut:
    """Loses the end of what it renders, at the end of a line."""

    real: Renderer
    share: float

    def render(self, desired: Desired, version: Version) -> Rendered:
        whole = self.real.render(desired, version)
        lines = whole.text.splitlines(keepends=True)
        return Rendered("".join(lines[: int(len(lines) * self.share)]), whole.maps)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.97])
def test_f40_a_text_cut_at_a_line_is_refused(stage: Stage, share: float) -> None:
    stage.boot({"asg": stage.group(2)})
    before = stage.picture()
    stage.ports = lambda ports: dataclasses.replace(ports, renderer=Cut(ports.renderer, share))
    stage.birth()
    report = stage.turn()
    assert any("cut off" in error for error in report.errors), report.errors
    assert stage.picture() == before
    assert stage.healthy()


def test_f40_control_haproxy_itself_takes_the_cut_text(stage: Stage) -> None:
    class NoCounts(Checker):
        def _count(self, candidate: Rendered) -> None:
            return

    stage.boot({"asg": stage.group(2)})
    assert stage.assembly is not None
    proxy = stage.assembly.reconciler._ports.proxy
    assert isinstance(proxy, HaproxyProxy)
    whole = proxy.installed()
    assert whole.text is not None
    cut = Rendered(whole.text[: whole.text.index("\nfrontend hafleet_health") + 1], whole.maps)
    with pytest.raises(ConfigRejected, match="cut off"):
        proxy.check(cut)
    NoCounts(proxy._settings, proxy._disk).check(cut)  # the health listener would be lost, and nobody minds


def test_f40_control_commands_before_the_check_would_take_servers_out(stage: Stage) -> None:
    class Rash(Reconciler):
        def _send(self, plan: Plan, wanted: Rendered) -> Outcome:
            assert isinstance(plan.world.worker, Worker)
            self._ports.proxy.run(plan.world.worker.pid, plan.proxy.commands)
            return super()._send(plan, wanted)

    stage.boot({"asg": stage.group(2)})
    stage.ports = lambda ports: dataclasses.replace(ports, renderer=Cut(ports.renderer, 0.5))
    stage.reconciler = Rash
    stage.birth()
    stage.turn()
    assert stage.rotation() == []


# --- row 43 -----------------------------------------------------------------------------------------------------------

WORDS = b"[ALERT]    (1) : config : parsing [x:1] : unknown keyword 'caf\xe9\xff'\n"


def test_f43_words_of_haproxy_that_are_no_utf8_end_no_pass(stage: Stage) -> None:
    stage.boot({"asg": stage.group(1)})
    before = stage.picture()
    quoted = "".join(f"\\{byte:03o}" for byte in WORDS)
    fake = stage.folder / "haproxy"
    fake.write_text(
        f'#!/bin/sh\ncase "$*" in *-c*) printf \'{quoted}\' >&2; exit 1;; esac\nexec {stage.haproxy.binary} "$@"\n'
    )
    fake.chmod(0o755)
    stage.sections["haproxy"]["binary"] = str(fake)
    stage.write()
    (stage.templates / MAIN).write_text(GOOD)
    report = stage.turn()
    assert any("unknown keyword 'caf" in error for error in report.errors), report.errors
    assert not any("internal error" in error for error in report.errors)
    assert stage.picture() == before


def test_f43_control_a_strict_reader_would_have_raised() -> None:
    with pytest.raises(UnicodeDecodeError):
        WORDS.decode()
