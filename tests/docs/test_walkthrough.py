"""The walk itself must notice what does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walkthrough import Block, Walk, blocks, edited, is_walkable, matches


def page(*fences: str) -> str:
    return "Some text.\n\n" + "\n\n".join(fences)


def test_blocks_know_their_line_language_and_title() -> None:
    found = blocks(page('```yaml title="a.yaml"\nx: 1\n```', "```console\n$ true\n```"))
    assert [one[:3] for one in found] == [(3, "yaml", "a.yaml"), (7, "console", None)]
    assert is_walkable("```python\n1\n```")
    assert not is_walkable("```sh\nrm -r /\n```")


def test_dots_stand_for_anything() -> None:
    assert matches("a ... d\n", "a b\nc d\n")
    assert not matches("a ... d", "a b c")
    assert not matches("a", "a b")


def test_files_are_written_and_the_folder_is_kept(tmp_path: Path) -> None:
    text = page(
        "```console\n$ mkdir inner && cd inner\n```",
        '```text title="note.txt"\nhello\n```',
        "```console\n$ pwd\n.../inner\n$ cat \\\n  note.txt\nhello\n```",
        "```python\nfrom pathlib import Path\n\nword = Path('note.txt').read_text()\n```",
        "```python\nprint(word * 2)\n```",
        "```text\nhello\nhello\n```",
    )
    Walk(tmp_path, {}).through(text)


def test_a_diff_is_an_edit_of_one_place() -> None:
    diff = Block(1, "diff", "a.txt", " a\n-b\n+c\n\n d\n")
    assert edited("x\na\nb\n\nd\n", diff) == "x\na\nc\n\nd\n"
    with pytest.raises(AssertionError, match="has 0 places"):
        edited("a\n", diff)


@pytest.mark.parametrize(
    "wrong",
    [
        "```console\n$ false\n```",
        "```console\n$ echo a\nb\n```",
        "```console\n$ cat missing.txt; true\nit is there\n```",
        "```console\necho no prompt\n```",
        "```python\nassert False\n```",
        "```python\nprint(1)\n```\n\n```text\n2\n```",
    ],
)
def test_what_does_not_hold_fails(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(AssertionError):
        Walk(tmp_path, {}).through(page(wrong))
