from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import BrokenComponent
from openvla_toolkit.core.hooks import FACTS, Observers, observe


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    @observe
    def metrics_logged(self, step: int, values: dict[str, float]) -> None:
        self.heard.append(("metrics", (step, values)))

    @observe
    def run_finished(self, error: BaseException | None) -> None:
        self.heard.append(("finished", error))


class Failing:
    name = "failing"
    calls = 0

    @observe
    def metrics_logged(self) -> None:
        self.calls += 1
        raise ValueError("no network")


def test_the_facts_are_five() -> None:
    assert FACTS == ("run_started", "metrics_logged", "checkpoint_saved", "artifact_exported", "run_finished")


def test_observers_hear_what_they_ask_for() -> None:
    one, two = Listener(), Listener()
    observers = Observers([one, two])
    observers.tell.metrics_logged(stage="train", step=3, values={"loss": 0.5})
    observers.tell.checkpoint_saved(step=3, path=Path("x"))
    observers.tell.run_finished(error=None)
    assert one.heard == two.heard == [("metrics", (3, {"loss": 0.5})), ("finished", None)]


def test_one_that_fails_is_reported_once_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    failing, listener = Failing(), Listener()
    observers = Observers([failing, listener])
    for step in (1, 2):
        observers.tell.metrics_logged(stage="train", step=step, values={})
    assert failing.calls == 1
    assert [step for _, (step, _) in listener.heard] == [1, 2]
    assert observers.names == ("Listener",)
    assert capsys.readouterr().err == (
        "observer 'failing' failed at metrics_logged and is dropped: ValueError: no network\n"
    )


def test_an_interrupt_is_not_an_observers_failure() -> None:
    class Interrupting:
        @observe
        def run_finished(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers([Interrupting()]).tell.run_finished(error=None)


def test_a_misspelt_fact_is_refused() -> None:
    class Misspelt:
        @observe
        def metric_logged(self) -> None: ...

    with pytest.raises(BrokenComponent, match=r"metric_logged.*facts: run_started, metrics_logged"):
        Observers([Misspelt()])
    with pytest.raises(AttributeError, match="metric_logged"):
        Observers().tell.metric_logged()  # type: ignore[attr-defined]


def test_an_unknown_argument_is_refused() -> None:
    class Curious:
        @observe
        def run_finished(self, weather: str) -> None: ...

    with pytest.raises(BrokenComponent, match="weather"):
        Observers([Curious()])
