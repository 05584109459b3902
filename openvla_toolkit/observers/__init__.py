"""Built-in observers: settings only; what is heavy is imported by ``build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from openvla_toolkit.interfaces.observer import ObserverConfig

if TYPE_CHECKING:
    from openvla_toolkit.observers.console import Console
    from openvla_toolkit.observers.jsonl import JSONLines
    from openvla_toolkit.observers.mlflow import MLflow
    from openvla_toolkit.observers.report.observer import Report
    from openvla_toolkit.observers.tensorboard import TensorBoard
    from openvla_toolkit.observers.wandb import WandB

__all__ = [
    "ConsoleConfig",
    "JSONLinesConfig",
    "MLflowConfig",
    "ReportConfig",
    "TensorBoardConfig",
    "WandBConfig",
]


class ConsoleConfig(ObserverConfig):
    """Show progress on stderr: bars on a terminal, plain lines elsewhere."""

    name: Literal["console"] = "console"

    quiet: bool = False
    """Show nothing; so does the environment variable OPENVLA_QUIET=1."""

    def build(self) -> Console:
        """Make the observer."""
        from openvla_toolkit.observers.console import Console

        return Console(self)


class JSONLinesConfig(ObserverConfig):
    """Write every metric to ``metrics.jsonl`` in the run folder."""

    name: Literal["jsonl"] = "jsonl"

    def build(self) -> JSONLines:
        """Make the observer."""
        from openvla_toolkit.observers.jsonl import JSONLines

        return JSONLines()


class MLflowConfig(ObserverConfig):
    """Log metrics to MLflow: to a server, or to files in the run folder (``mlruns``)."""

    name: Literal["mlflow"] = "mlflow"

    tracking_uri: str | None = None
    """Where runs are kept; null follows MLFLOW_TRACKING_URI, and is ``mlruns`` where that is not set."""
    experiment: str = "openvla"
    """Experiment that the run belongs to."""
    run: str | None = None
    """Name of the run; null for the name of the run folder."""

    def build(self) -> MLflow:
        """Make the observer.

        Raises:
            MissingDependency: mlflow is not installed.
        """
        from openvla_toolkit.observers.mlflow import MLflow

        return MLflow(self)


class ReportConfig(ObserverConfig):
    """Write ``report.html``, one self-contained page, when the run ends."""

    name: Literal["report"] = "report"

    def build(self) -> Report:
        """Make the observer."""
        from openvla_toolkit.observers.report.observer import Report

        return Report()


class TensorBoardConfig(ObserverConfig):
    """Write TensorBoard event files into the run folder."""

    name: Literal["tensorboard"] = "tensorboard"

    folder: str = "tensorboard"
    """Where, relative to the run folder."""

    def build(self) -> TensorBoard:
        """Make the observer.

        Raises:
            MissingDependency: tensorboard is not installed.
        """
        from openvla_toolkit.observers.tensorboard import TensorBoard

        return TensorBoard(self)


class WandBConfig(ObserverConfig):
    """Send metrics to Weights & Biases, or keep them in the run folder with ``mode: offline``."""

    name: Literal["wandb"] = "wandb"

    project: str = "openvla"
    """Project that the run belongs to."""
    entity: str | None = None
    """User or team; null for your default."""
    mode: Literal["online", "offline", "disabled"] | None = None
    """Null follows WANDB_MODE, and sends where that is not set."""
    run: str | None = None
    """Name of the run; null for the name of the run folder."""
    group: str | None = None
    """Group of runs that are shown together."""

    def build(self) -> WandB:
        """Make the observer.

        Raises:
            MissingDependency: wandb is not installed.
        """
        from openvla_toolkit.observers.wandb import WandB

        return WandB(self)
