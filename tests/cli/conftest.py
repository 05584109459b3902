from __future__ import annotations

from collections.abc import Callable

import pytest

from openvla_toolkit.cli import main


@pytest.fixture
def openvla(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: words in; exit code, stdout and stderr out."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(words)
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return call
