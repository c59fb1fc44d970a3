"""``shell``: a Python prompt with a running city at hand."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from twin_actors.cli.cities import CityName, connected


def shell(
    city: CityName = None,
    run: Annotated[str, typer.Option("--command", "-c", help="Run this Python text instead of asking for more.")] = "",
) -> None:
    """Open a Python prompt (IPython where it is installed) with `city` connected; leaving it changes nothing."""
    import twin_actors

    with connected(city) as there:
        names: dict[str, Any] = {"city": there, "City": twin_actors.City}
        if run:
            exec(compile(run, "<command>", "exec"), names)
            return
        banner = (
            f"{there!r}\n"
            f"try: city[{there.ids[0]!r}]   city.frame({there.kinds()[0]!r})   city.ledger()   city.decisions()"
        )
        try:
            from IPython.terminal.embed import InteractiveShellEmbed
        except ImportError:
            _plain_prompt(names, banner)
            return
        prompt: Any = InteractiveShellEmbed  # untyped
        prompt(banner1=banner, user_ns=names)()


def _plain_prompt(names: dict[str, Any], banner: str) -> None:
    import code
    import contextlib

    with contextlib.suppress(ImportError):  # Python can be built without it; then there is no completion
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    code.interact(banner=banner, local=names, exitmsg="")
