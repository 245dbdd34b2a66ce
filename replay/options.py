"""The shape of commands: options that all share, wherever they stand, and help that teaches.

`-L`, `-o`, `-O`, `--tz`, `--now`, `--dir` and `-q` may stand before the command's name or after it, and mean the same. They are
no parameters of any function: each puts what it was given into the call's `Asked`. A moment such as `-2h30m` is an argument and
no option, though it begins with a dash. Commands are loaded when they are called, so that none pays for another's imports.

Only Click here; nothing is opened and nothing is asked.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from ledger.errors import Refused
from replay.asked import Asked
from replay.text import shorten

_F = TypeVar("_F", bound=Callable[..., Any])
_AS_IT_STANDS: Final = re.compile(r"^(?=(?:For example|A TIME|Exit codes|Environment)\b)", re.MULTILINE)
"""Before what Click is not to fill anew into paragraphs."""
_BACKWARDS: Final = re.compile(r"-[0-9][0-9.]*\s*[a-z][0-9a-z. ]*")
"""`-2h30m`: a moment before now."""


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Put an option that was given into the call's `Asked`."""
    name = str(parameter.name)
    if context.resilient_parsing or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
        return
    if name == "destination" and value == "-":
        raise Refused("'-' is no file", hint="without -O the answer goes to the standard output; a file of that name is ./-")
    asked = context.find_root().ensure_object(Asked)
    if name == "named":
        asked.ledgers.extend(value)
    else:
        setattr(asked, name, value)


def _shared() -> list[click.Option]:
    """The options that all commands share."""

    def option(*names: str, **given: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_keep, **given)

    return [
        option(
            "-L", "--ledger", "named", multiple=True, metavar="FILE|DIR",
            help="A ledger, or a folder of them; may be repeated. Several are read as one.",
        ),
        option("-o", "--output", type=click.Choice(["table", "json", "jsonl", "csv"]), help="The form of the answer."),
        option("-O", "--destination", metavar="FILE", help="Write to this file, which is made whole or not at all."),
        option("--tz", metavar="ZONE", help="The zone of times that name none, such as Europe/Berlin. Else UTC."),
        option("--now", metavar="TIME", help="What `now` means. Else the last entry, or the clock if a node is writing."),
        option("--dir", metavar="DIR", help="The node's directory, whose node.ledger is read if no ledger is named."),
        option("-q", "--quiet", is_flag=True, help="Nothing on standard error but what is wrong."),
    ]  # fmt: skip


class _Shaped(click.Command):
    """What commands and groups have in common here."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.help = _AS_IT_STANDS.sub("\b\n", inspect.cleandoc(self.help or ""))
        self.epilog = _AS_IT_STANDS.sub("\b\n", self.epilog or "") or None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, then the shared ones."""
        return [*super().get_params(ctx), *_shared()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As Click does it, with moments before now that are arguments spelled so that they are taken for no option."""
        if isinstance(self, click.Group):
            return super().parse_args(ctx, args)  # what follows a command's name is that command's
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option) and not each.is_flag]
        valued = {name for option in options for name in option.opts}
        spelled = [
            f"now{each}" if _BACKWARDS.fullmatch(each) and before not in valued else each
            for before, each in zip(["", *args], args, strict=False)
        ]
        return super().parse_args(ctx, spelled)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Its own options first; those that all share in a section of their own."""
        shared = {str(option.name) for option in _shared()}
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of all commands": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                sections["Options of all commands" if parameter.name in shared else "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Command(_Shaped):
    """A command with the shared options. Its function returns the exit code."""


class Group(_Shaped, click.Group):
    """A group whose commands are loaded when they are called. `places`: by name, the room and the one line of help; `titles`:
    what stands in the help above the command of that name, and those after it.
    """

    def __init__(
        self, *given: Any, places: Mapping[str, tuple[str, str]], titles: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self.places = places
        self.titles = titles or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  Click's word
        """The names, in the order in which they are taught."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  Click's word
        """The command, with its room loaded; None for a name that there is not."""
        if cmd_name not in self.places:
            return None
        found = getattr(import_module(self.places[cmd_name][0]), f"{cmd_name.replace('-', '_')}_")
        return found if isinstance(found, click.Command) else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As Click does it; a name that there is not is refused with those near it."""
        name = args[0]
        if name not in self.places and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, self.places, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"`{ctx.command_path} --help` lists the commands"
            raise Unknown(f"there is no command '{shorten(name)}'", hint, ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As Click does it; a group of commands, named alone, is refused with their names."""
        if not args and ctx.parent is not None and not ctx.resilient_parsing:
            raise Unknown(f"`{ctx.command_path}` is followed by one of {', '.join(self.places)}", None, ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands first: they are what is looked for."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  Click's word
        """The list of commands, without loading any."""
        sections: dict[str, list[tuple[str, str]]] = {}
        title = "Commands"
        for name, (_room, line) in self.places.items():
            title = self.titles.get(name, title)
            sections.setdefault(title, []).append((name, line))
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)


class Unknown(click.UsageError):
    """A command that there is not, or none, with a hint of its own if there is a better one than the help."""

    def __init__(self, message: str, hint: str | None, ctx: click.Context) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def belief_option() -> Callable[[_F], _F]:
    """The option that asks for what one machine knew then, instead of what is known now."""
    said = "Only what this machine knew by then: its own log, and of the others' what it had received."
    return click.option("--as-seen-by", "observer", metavar="MACHINE", help=said)


def ledgers_argument() -> Callable[[_F], _F]:
    """The argument by which most commands take ledgers."""
    return click.argument("ledgers", nargs=-1, metavar="[LEDGER]...")
