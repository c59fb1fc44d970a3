"""Problems collected while a scenario is read: knows which file and line every place of the merged document is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath

from twin_actors.scenario.errors import Path, Problem, ScenarioError, key_text, nearest
from twin_actors.scenario.yaml_text import YamlFile

_MOST_GUESSES = 50
"""Looking for the nearest of thousands of ids takes milliseconds: after so many problems we stop guessing."""


class Report:
    """Takes problems at places of the merged document and gives each its file and line at once.

    ``origins`` says for each element of a layered list which file, and which position there, it came from.
    ``entities_incomplete`` turns true when entities had to be left out, so that references to them are not
    reported as well.
    """

    def __init__(self, files: Sequence[YamlFile], origins: dict[str, list[tuple[int, int]]]) -> None:
        self._files = files
        self._origins = origins
        self.problems: list[Problem] = []
        self.entities_incomplete = False

    def add(self, path: Path, message: str, *, word: object = None, known: Iterable[str] = ()) -> None:
        """Note a problem; with ``word``, the nearest of ``known`` is suggested in its place."""
        file, local = self._home(path)
        line, _ = file.line(local)
        self.add_in(file.shown, line, key_text(local), message, word=word, known=known)

    def add_in(
        self, file: str, line: int, key: str, message: str, *, word: object = None, known: Iterable[str] = ()
    ) -> None:
        """Note a problem of another file, such as a CSV file that the scenario names."""
        guess = nearest(word, known) if word is not None and len(self.problems) < _MOST_GUESSES else ""
        problem = Problem(file=file, line=line, key=key, message=message, suggestion=guess)
        if problem not in self.problems[-_MOST_GUESSES:]:
            self.problems.append(problem)

    def where(self, path: Path) -> str:
        """``file:line`` of a place."""
        file, local = self._home(path)
        return f"{file.shown}:{file.line(local)[0]}"

    def beside(self, path: Path, name: str) -> FilePath:
        """The file called ``name`` as seen from the scenario file that says so at ``path``."""
        return (self._home(path)[0].path.parent / FilePath(name).expanduser()).resolve()

    def existing(self, path: Path, name: str) -> FilePath | None:
        """As `beside`, or None and a problem when there is no such file."""
        file = self.beside(path, name)
        if file.is_file():
            return file
        siblings = [s.name for s in file.parent.iterdir()] if file.parent.is_dir() else []
        folder = "" if file.parent.is_dir() else f"; there is no folder {file.parent} either"
        self.add(path, f"there is no file {name!r}{folder}", word=file.name, known=siblings)
        return None

    def drop(self, key: str, position: int) -> None:
        """Forget one element of a layered list, which was faulty and has been taken out of the document."""
        del self._origins[key][position]

    def raise_if_any(self) -> None:
        if not self.problems:
            return
        order = {file.shown: i for i, file in enumerate(self._files)}
        self.problems.sort(key=lambda problem: (order.get(problem.file, len(order)), problem.file, problem.line))
        raise ScenarioError(self.problems)

    def _home(self, path: Path) -> tuple[YamlFile, Path]:
        if len(path) > 1 and isinstance(path[1], int) and path[0] in self._origins:
            file, position = self._origins[str(path[0])][path[1]]
            return self._files[file], (path[0], position, *path[2:])
        # The last file that has the place, or most of it, is the one whose words count.
        return max(reversed(self._files), key=lambda file: file.line(path)[1]), path
