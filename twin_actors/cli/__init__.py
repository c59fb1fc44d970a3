"""The command line, ``twin-actors``: the same words as the Python handle, for terminals and for scripts.

Importing this room is light; Ray, pandas and the scenario reader load with the command that needs them.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The entry point of ``twin-actors``; ends the process with the command's exit code."""
    from twin_actors.cli.app import app

    app(prog_name="twin-actors")
