"""How --help shows a command: its options in groups, then examples.

Plain click lists 32 options in one row, and wraps examples.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

NAMES_WIDTH = 26  # of the options' names; of a longer one, the text starts below it
BOUND = "\N{NO-BREAK SPACE}"  # while lines are broken

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Grouped = Callable[[str], Decorator]


class _WithExamples(click.Command):
    """Its help ends with command lines, one a line; two blanks part one from what it is for."""

    title = "Examples"

    def __init__(self, *args: Any, examples: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = textwrap.dedent(examples).strip()

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(self.title):  # as they are: what is wrapped cannot be copied
            formatter.write(textwrap.indent(f"{self.examples}\n", "  "))


class Command(_WithExamples):
    """A command with options in groups."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first paragraph, which is never cut off."""
        return inspect.cleandoc(self.help or "").partition("\n\n")[0].replace("\n", " ")

    def get_help(self, ctx: click.Context) -> str:
        return super().get_help(ctx).replace(BOUND, " ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                names, text = record
                row = (names, text.replace("default: ", f"default:{BOUND}"))
                groups.setdefault(getattr(parameter, "group", "Other options"), []).append(row)
        # One width for all groups, so that their texts stand below each other.
        width = max(len(names) for rows in groups.values() for names, _ in rows)
        for title, rows in groups.items():
            aligned = [(names.ljust(min(width, NAMES_WIDTH)), text) for names, text in rows]
            with formatter.section(title):
                formatter.write_dl(aligned, col_max=NAMES_WIDTH)


class Group(_WithExamples, click.Group):
    """Commands in the order in which they are written down."""

    title = "Try first"
    command_class = Command

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self.commands)


class _GroupedOption(click.Option):
    def __init__(self, *args: Any, group: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group
        if self.metavar is None and self.type in (click.INT, click.FLOAT):
            self.metavar = "N"


def option(*names: str, **settings: Any) -> Grouped:
    """What click.option takes; the default is shown."""
    return lambda title: click.option(
        *names, cls=_GroupedOption, group=title, show_default=True, **settings
    )


def in_groups(groups: dict[str, Sequence[Grouped]]) -> Decorator:
    """The options of a command, below their titles."""
    decorators = [one(title) for title, options in groups.items() for one in options]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):  # the lowest is the last in the help
            command = decorator(command)
        return command

    return decorate


def given() -> set[str]:
    """The options that stand on the current command's line, by their last flag: `--output`."""
    context = click.get_current_context()
    return {
        param.opts[-1]
        for param in context.command.params
        if isinstance(param, click.Option)
        and param.name
        and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    }
