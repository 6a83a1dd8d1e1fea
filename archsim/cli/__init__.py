"""The command line: one form everywhere, ``archsim VERB NETWORK [LAYER] -m MACHINE``.

Results go to stdout, progress and warnings to stderr.  Exit status: 0 done, 1 the job failed,
2 the input is wrong.  Command modules import the library only inside their functions, so that
``archsim --help`` stays quick.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module

import click

import archsim
from archsim.cli.groups import Group
from archsim.errors import ArchsimError, InputError

# command -> module of this package that holds it
_COMMANDS = {
    "study": "study",
    "predict": "run",
    "simulate": "simulate",
    "measure": "run",
    "explain": "explain",
    "sweep": "sweep",
    "validate": "validate",
    "report": "study",
    "calibrate": "calibrate",
    "targets": "targets",
    "prune": "prune",
    "machines": "machines",
    "scenarios": "scenarios",
    "networks": "networks",
}


class _LazyGroup(Group):
    """Imports a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in _COMMANDS:
            return None
        command = getattr(import_module(f"archsim.cli.{_COMMANDS[name]}"), f"{name}_command")
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(archsim.__version__, prog_name="archsim")
def cli() -> None:
    """How sparse convolutional networks run on real and imagined processors."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    if sys.stdout is None:  # archsim ... >&-
        _say("there is no standard output to write to")
        return 1
    for stream in (sys.stdout, sys.stderr):
        # a name that the terminal's encoding lacks must not end the program
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        status = _call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader (head, less) has gone: leave quietly
        _drop_output()
        return 1
    except OSError as error:
        _drop_output()
        _say(f"{error.filename or 'output'}: {error.strerror or error}")
        return 1
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning of the library as one line."""
    _say(str(message), "warning")


def _call(arguments: list[str] | None) -> int:
    """Run the command line; turn errors into one line and a status."""
    warnings.showwarning = _show_warning
    try:
        status = cli.main(args=arguments, prog_name="archsim", standalone_mode=False)
        return int(status or 0)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as stop:
        click.echo(stop.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f"{context.command_path}: " if context is not None else ""
        _say(f"{where}{error.format_message()}")
        return 2
    except InputError as error:
        _say(str(error))
        return 2
    except ArchsimError as error:
        _say(str(error))
        return 1
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        _say(f"not enough memory{why}: a smaller batch or layer needs less")
        return 1
    except OverflowError as error:
        _say(f"a number is too large ({error})")
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        _say("interrupted")
        return 130


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that flushing it at the end cannot fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str, kind: str = "error") -> None:
    from archsim.report.record import clean

    with suppress(OSError):  # nobody listens
        click.echo(f"{kind}: " + clean(" ".join(text.splitlines())), err=True)
