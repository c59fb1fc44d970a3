"""What goes wrong, as one clear message and an exit code; tracebacks only where ``--debug`` asks for them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether the caller of this command line wants tracebacks."""


class ExitCode(IntEnum):
    """What scripts can rely on."""

    FINE = 0
    FAILED = 1
    BAD_SCENARIO = 2
    LAUNCH_REFUSED = 3
    LEDGER_UNBALANCED = 4
    INTERRUPTED = 130


class Failed(Exception):
    """A command that could not do what it was asked; the message says what to do, ``code`` is the exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def careful(command: Callable[P, R]) -> Callable[P, R]:
    """Turn whatever ``command`` raises into one message on stderr and an exit code."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return command(*arguments, **options)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            # the reader of our output has gone, as in `twin-actors query … | head`
            sys.stdout = None  # else the interpreter complains when it flushes at exit
            raise typer.Exit(ExitCode.FAILED) from None
        except Exception as error:
            if DEBUG.get():
                raise
            message, code = explained(error)
            print(message, file=sys.stderr)
            raise typer.Exit(code) from error

    return run


def explained(error: BaseException) -> tuple[str, ExitCode]:
    """The words for an error and the exit code that goes with it."""
    from twin_actors.scenario.errors import ScenarioError

    # an exception inside an actor comes wrapped in a RayTaskError with the actor's whole traceback as its text
    cause = getattr(error, "cause", None)
    if type(error).__name__.startswith("RayTaskError") and isinstance(cause, BaseException):
        error = cause
    if isinstance(error, Failed):
        return str(error), error.code
    if isinstance(error, ScenarioError):
        count = len(error.problems)
        return f"{error}\n{count} problem{'s' if count > 1 else ''}, nothing was started", ExitCode.BAD_SCENARIO
    if _is(error, "CatalogueError"):
        return str(error), ExitCode.BAD_SCENARIO
    if _is(error, "LaunchRefused"):
        return str(error), ExitCode.LAUNCH_REFUSED
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0]), ExitCode.FAILED
    if isinstance(error, LookupError | ValueError | OSError | RuntimeError):
        return str(error) or type(error).__name__, ExitCode.FAILED
    return f"unexpected {type(error).__name__}: {error} (run it again with --debug to see where)", ExitCode.FAILED


def _is(error: BaseException, name: str) -> bool:
    """Recognise an error by its class's name: importing its room would cost every command its start-up time."""
    return any(each.__name__ == name for each in type(error).__mro__)
