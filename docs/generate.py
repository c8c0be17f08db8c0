"""Writes the generated parts of the documentation: ``python docs/generate.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmark.cli import group

SETTINGS: dict[str, Any] = {**group.context_settings, "max_content_width": 100, "terminal_width": 100}

HEADER = """\
# Command line

Generated from the program by `make docs`; a test holds it current.

Exit codes: 0 done, 1 expected error, 2 usage, 3 finished with failed jobs, 4 a check failed, 130 interrupted.
"""


def cli_reference() -> str:
    """The help of every command, as Markdown."""
    context = click.Context(group, info_name="curveboard", **SETTINGS)
    return HEADER + "".join(_sections(group, context))


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"\n## `{context.command_path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _sections(child, click.Context(child, info_name=name, parent=context, **SETTINGS))


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(cli_reference(), encoding="utf-8")
