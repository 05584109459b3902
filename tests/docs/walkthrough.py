"""Walk through a page as a reader would: run its commands, write its files, execute its Python.

What the fenced blocks of a page mean, in order, in one folder per page:

* ``console``: lines that begin with ``$`` are commands for bash (a final backslash continues them); the lines
  that follow are what they print, where ``...`` stands for anything. Without such lines the output is free.
* any language with ``title="path"``: the file that the reader writes there; ``diff``: an edit of it.
* ``python``: executed, all blocks of a page in one namespace; a ``text`` block right after is what it prints.

Everything else (``yaml``, ``text``) is only read. A command that ends with an error fails the walk. What
takes too long to be run is in ``sh`` blocks: ``test_unrun_commands`` checks that it could be.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Block", "Walk", "blocks", "edited", "is_walkable", "matches"]

_FENCE = re.compile(r"^(?P<mark>```+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=mark) *$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


class Block(NamedTuple):
    """One fenced block."""

    line: int
    language: str
    title: str | None
    text: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text."""
    found = []
    for match in _FENCE.finditer(page):
        words = match["info"].split()
        title = _TITLE.search(match["info"])
        line = page.count("\n", 0, match.start()) + 1
        found.append(Block(line, words[0] if words else "", title[1] if title else None, match["text"]))
    return found


def is_walkable(page: str) -> bool:
    """Say whether there is something to run on a page."""
    return any(block.language in ("console", "python") for block in blocks(page))


def matches(expected: str, actual: str) -> bool:
    """Compare outputs line by line, trailing blanks ignored; ``...`` in ``expected`` stands for anything."""
    want, got = (re.sub(r"[ \t]+$", "", text.strip(), flags=re.MULTILINE) for text in (expected, actual))
    return re.fullmatch(".*".join(map(re.escape, want.split("..."))), got, re.DOTALL) is not None


class Walk:
    """One page being walked through in a folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def through(self, page: str) -> None:
        """Take every block of the page; raises ``AssertionError`` with the line that does not hold."""
        after = [*blocks(page)[1:], None]
        for block, following in zip(blocks(page), after, strict=True):
            if block.title:
                self._write(block, self._folder / block.title)
            elif block.language == "console":
                self._commands(block)
            elif block.language == "python":
                printed = following.text if following and following.language == "text" else None
                self._python(block, printed)

    def _write(self, block: Block, path: Path) -> None:
        if block.language == "diff":
            path.write_text(edited(path.read_text(), block))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)

    def _commands(self, block: Block) -> None:
        for command, expected in _commands(block):
            done = self._shell(command)
            where = f"line {block.line}: $ {command}"
            assert done.returncode == 0, f"{where}\nended with {done.returncode}:\n{done.stdout}"
            assert not expected or matches(expected, done.stdout), f"{where}\nprinted:\n{done.stdout}"

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one command; where it changes to is where the next one starts."""
        where = self._folder.parent / f"{os.getpid()}.cwd"
        script = f'{command}\nstatus=$?\npwd > "{where}"\nexit $status\n'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if where.exists():
            self._folder = Path(where.read_text().rstrip("\n"))
        return done

    def _python(self, block: Block, expected: str | None) -> None:
        output = io.StringIO()
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            with contextlib.redirect_stdout(output):
                exec(compile(block.text, f"<line {block.line}>", "exec"), self._names)
        finally:
            os.chdir(before)
        assert expected is None or matches(expected, output.getvalue()), (
            f"line {block.line}: the Python block printed:\n{output.getvalue()}"
        )


def edited(text: str, diff: Block) -> str:
    """Replace the lines of a diff that begin with a blank or ``-`` by those with a blank or ``+``."""
    lines = diff.text.splitlines(keepends=True)
    old = "".join(line[1:] or "\n" for line in lines if not line.startswith("+"))
    new = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
    assert text.count(old) == 1, f"line {diff.line}: {diff.title} has {text.count(old)} places like\n{old}"
    return text.replace(old, new)


def _commands(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output that the page shows for it."""
    command, expected = "", ""
    for line in block.text.splitlines():
        if command.endswith("\\"):
            command += f"\n{line}"
        elif line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], ""
        else:
            expected += f"{line}\n"
    assert command, f"line {block.line}: a console block without a command ('$ ...')."
    yield command, expected
