"""Jinja templates -> haproxy.cfg. Shipped templates, each of which a file of the same name in the user's folder replaces.

A template sees ``core.context.Context`` and nothing else. What a value prints may hold no line break and no other control
character, so that no value can become a directive; line breaks come from the text of the templates alone.
"""

import re
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any

from jinja2 import StrictUndefined, TemplateNotFound, TemplateRuntimeError, TemplateSyntaxError, pass_context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from markupsafe import Markup

from hafleet import __version__
from hafleet.adapters.template_files import SHIPPED, FolderState, TemplateFolders, UsedFiles
from hafleet.core.build_context import make_context
from hafleet.core.cfgtext import FILE_MARK, finish
from hafleet.core.context import Context
from hafleet.core.maps import map_files
from hafleet.core.model import Desired, Rendered, Version
from hafleet.core.settings import Settings
from hafleet.core.used_files import used_files
from hafleet.errors import HafleetError, TemplateError

MAIN = "haproxy.cfg.j2"

_PACKAGE = Path(__file__).resolve().parent.parent
_VARIABLES = tuple(field.name for field in fields(Context))
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# What these return counts as text of the template, and so would carry a value's line breaks past the guard.
_REMOVED_FILTERS = ("safe", "e", "escape", "forceescape", "urlize", "xmlattr", "tojson")


class JinjaRenderer:
    """Renders the configuration of this node. Templates are read again when they change.

    Args:
        settings: as they passed.
        source: path of the settings file, for the header of the text.
        digest: hex sha256 of the settings file, for the same.
    """

    def __init__(self, settings: Settings, source: str, digest: str) -> None:
        self._settings = settings
        self._source = f"{source} sha256={digest}"
        chosen = settings.haproxy.templates_dir
        own = Path(chosen) if chosen is not None else None
        self._folders = TemplateFolders(own, shipped_templates())
        self._environment = _Environment(self._folders)
        self._used = UsedFiles(used_files(settings))
        self._last: _Rendering | None = None

    def render(self, desired: Desired, version: Version) -> Rendered:
        """The finished configuration for this HAProxy version.

        Raises:
            TemplateError: a template is missing or does not render, with its file and line; or a name in ``desired``
                must not reach the configuration.
            SettingsError: the settings make no unambiguous map.
        """
        templates, used = self._folders.state(), self._used.digests()
        last = self._last
        if last is not None and (templates, used, version, desired) == (*last.made_of, last.desired):
            return last.rendered
        context = make_context(self._settings, desired, version)
        files = map_files(self._settings)
        marks = "".join(f"{FILE_MARK} {path} {digest}\n" for path, digest in used)
        body = marks + self._body(context)
        text = finish(body, source=self._source, author=f"hafleet {__version__}")
        rendered = Rendered(text=text, maps=files)
        self._last = _Rendering((templates, used, version), desired, rendered)
        return rendered

    def watch_paths(self) -> tuple[Path, ...]:
        """The folders whose files decide what is rendered: the user's, if there is one, and the shipped one."""
        return self._folders.paths

    def _body(self, context: Context) -> str:
        """What the templates print. Whatever is raised while they run is a template's fault."""
        try:
            template = self._environment.get_template(MAIN)
            return template.render({name: getattr(context, name) for name in _VARIABLES})
        except HafleetError:
            raise
        except TemplateSyntaxError as error:
            where = f"{error.filename or error.name}:{error.lineno}"
            raise TemplateError(
                f"the template is not valid: {(error.message or '').rstrip('.')}", where=where, fix=_FIX
            ) from error
        except TemplateNotFound as error:
            what = f"there is no template {str(error)[:200]!r}"
            raise TemplateError(what, where=self._place(error.__traceback__), fix=_FIX) from error
        except Exception as error:
            what = f"the template does not render: {_sentence(error)}"
            raise TemplateError(what, where=self._place(error.__traceback__), fix=_FIX) from error

    def _place(self, trace: TracebackType | None) -> str:
        """FILE:LINE of the innermost line of a template in the traceback; the folder when none was reached."""
        found = ""
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if self._folders.holds(name):
                found = f"{name}:{trace.tb_lineno}"
            trace = trace.tb_next
        return found or str(self._folders.paths[0])


@dataclass(frozen=True, slots=True)
class _Rendering:
    """The last text and all it was made of: most passes want the same again, and 10,000 servers take 60 ms."""

    made_of: tuple[
        FolderState, tuple[tuple[str, str], ...], Version
    ]  # templates, digests of used files, HAProxy's version
    desired: Desired
    rendered: Rendered


def shipped_templates(package: Path = _PACKAGE) -> Path:
    """The folder of the shipped templates: in the package when installed, beside it in a checkout.

    Raises:
        TemplateError: the installation lacks them.
    """
    for folder in (package / "templates", package.parent / "templates"):
        if (folder / MAIN).is_file():
            return folder
    raise TemplateError("the shipped templates are missing", where=str(package), fix="install hafleet again")


_FIX = "the configuration stays as it is; `hafleet check` tries the templates again"


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja as hafleet's templates have it: strict, sandboxed, and with a guard on every value that is printed.

    Autoescape is on for its bookkeeping alone: it tells text of a template (Markup, from blocks and macros, which may hold
    line breaks) from values. No value is ever escaped: the guard refuses instead.
    """

    def __init__(self, folders: TemplateFolders) -> None:
        super().__init__(
            loader=folders,
            undefined=_Undefined,
            finalize=_printable,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        for name in _REMOVED_FILTERS:
            del self.filters[name]

    def join_path(self, template: str, parent: str) -> str:
        """A template that extends or includes its own name means the shipped one that it replaces."""
        return f"{SHIPPED}{template}" if template == parent else template


class _Undefined(StrictUndefined):
    """Any use of a name that does not exist fails, and tells the nearest name that does."""

    @property
    def _undefined_message(self) -> str:
        name = self._undefined_name
        if self._undefined_hint or not isinstance(name, str):
            return str(super()._undefined_message)
        if self._undefined_obj is missing:
            what, known = f"{name!r} is undefined", list(_VARIABLES)
        else:
            what = f"there is no {name!r} in {type(self._undefined_obj).__name__}"
            known = [each for each in dir(self._undefined_obj) if not each.startswith("_")]
        near = get_close_matches(name, known, n=1)
        return f"{what}; did you mean {near[0]!r}?" if near else what


@pass_context
def _printable(_context: object, value: Any) -> Any:
    """Jinja's finalize: the value as a template prints it. Asking for the context keeps Jinja from escaping constants.

    Raises:
        TemplateRuntimeError: the value is None, or holds a control character.
    """
    if isinstance(value, Markup):
        return value
    if value is None:
        raise TemplateRuntimeError("this value is None: print it inside {% if %}")
    text = str(value)
    if _CONTROL.search(text):
        raise TemplateRuntimeError(f"{text[:80]!r} holds a control character, which must not reach haproxy.cfg")
    return Markup(text)  # noqa: S704 - nothing here is HTML; this marks the value as guarded


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text or type(error).__name__
