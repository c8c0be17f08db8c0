"""The command line: a verb is a file of this folder with a click command called ``command``, imported when needed.

No module here may import torch or sqlalchemy at the top: ``curveboard --help`` must answer at once.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Final

import click

HELPERS: Final = {"costs", "options", "plain", "progress"}
"""Modules of this folder that are not verbs."""


class Verbs(click.Group):
    """A group whose commands are the modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, sorted."""
        modules = (m.name for m in pkgutil.iter_modules(__path__))
        return sorted(name.rstrip("_") for name in modules if name not in HELPERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb called so; a verb that is a Python word lives in a module with a trailing underscore."""
        if cmd_name not in self.list_commands(ctx):
            return None
        modules = {m.name.rstrip("_"): m.name for m in pkgutil.iter_modules(__path__)}
        module = importlib.import_module(f"{__name__}.{modules[cmd_name]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest verb for one that does not exist."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from benchmark.errors import UnknownNameError

            raise click.UsageError(str(UnknownNameError("command", args[0], self.list_commands(ctx))), ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="curveboard", prog_name="curveboard")
def group() -> None:
    """Leaderboards of adversarial robustness, from whole robustness curves.

    Start with: curveboard init board && cd board && curveboard evaluate && curveboard publish
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 1 expected error, 2 usage, 3 finished with failed jobs, 4 a check failed, 130 interrupted.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Whatever is printed is made plain."""
    from benchmark.cli.plain import plain_output

    with plain_output():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result = group.main(args=arguments, prog_name="curveboard", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; give the interpreter somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        click.echo("Error: Out of memory. Nothing is lost; try again with a smaller --limit or -j.", err=True)
        return 1
    except Exception as error:
        if not _is_expected(error):
            raise
        click.echo(f"Error: {error}", err=True)
        return 1
    return result if isinstance(result, int) else 0


def _is_expected(error: Exception) -> bool:
    """Whether the error's text was written for the user: then it needs no traceback."""
    from benchmark.errors import BenchmarkError
    from db.errors import DatabaseError
    from models_zoo.errors import ZooError

    return isinstance(error, BenchmarkError | DatabaseError | ZooError | OSError)
