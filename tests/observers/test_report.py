from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from openvla_toolkit.core.contract import Camera, Contract, Dimension, FrameRecipe, ImageRecipe, Interface
from openvla_toolkit.core.errors import DataError, TrainingError
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.observers import ReportConfig
from openvla_toolkit.observers.report.contract_table import contract_rows
from openvla_toolkit.observers.report.page import write_report
from openvla_toolkit.observers.report.run_folder import read_run

VOID = {"meta", "img", "line", "br"}


class Page(HTMLParser):
    """Checks that tags are closed and collects what the page would load, its headings and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe"}
        self.loads += [value or "" for name, value in attributes if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def rate(successes: int, episodes: int) -> dict[str, float]:
    return {
        "successes": successes,
        "episodes": episodes,
        "rate": successes / episodes,
        "low": 0.2,
        "high": 0.9,
    }


def closed_loop(successes: int) -> dict[str, Any]:
    strip = {"seed": 10_001, "family": "push", "task": "push the <red> cube", "steps": 7}
    edges = [0.0, 0.5, 1.0]
    return {
        "evaluator": "closed-loop",
        "summary": ["success"],
        "success": rate(successes, 10),
        "families": {"push": rate(successes, 10)},
        "swap_probe": rate(1, 5),
        "criterion": "the goal",
        "seeds": {"first": 10_000, "last": 10_009},
        "seconds": 3.0,
        "steps_per_second": 250.0,
        "actions": {
            "dimensions": [
                {"name": "x", "unit": "m", "edges": edges, "counts": {"policy": [5, 1], "expert": [4, 2]}},
                {
                    "name": "roll",
                    "unit": "rad",
                    "edges": edges,
                    "counts": {"policy": [6, 0], "expert": [6, 0]},
                },
            ],
            "expert": "asked everywhere",
        },
        "filmstrips": [
            strip | {"file": "filmstrips/a.jpg", "success": False, "swap": False},
            strip | {"file": None, "reason": "not repeatable", "success": True, "swap": False},
            strip | {"file": "filmstrips/a.jpg", "success": False, "swap": True},
        ],
    }


def contract() -> Contract:
    return Contract(
        robot=Interface(
            cameras={"primary": Camera(height=48, width=64, rotation=180)},
            action=(Dimension(name="x", unit="m", reference="delta"),),
            control_hz=5,
        ),
        cameras=("primary",),
        images=ImageRecipe(size=64, means=((0.5, 0.5, 0.5),), stds=((0.5, 0.5, 0.5),)),
    )


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_evaluation(folder: Path, figures: dict[str, Any]) -> None:
    episode = {"family": "push", "task": "push the cube", "steps": 40}
    write(folder / "result.json", figures)
    lines = [
        episode | {"episode": 0, "seed": 10_000, "success": True, "swap": False},
        episode | {"episode": 1, "seed": 10_007, "success": False, "swap": False},
        episode | {"episode": 2, "seed": 10_009, "success": False, "swap": True},
    ]
    write(folder / "episodes.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    buffer = io.BytesIO()
    Image.new("RGB", (14, 4)).save(buffer, "JPEG")
    (folder / "filmstrips").mkdir()
    (folder / "filmstrips/a.jpg").write_bytes(buffer.getvalue())


LOCK = """\
seed: 11
policy: {name: openvla, weights: tabletop-tiny}
data: [{name: demonstrations}]
train: {steps: 400, batch: {total: 32}}
evaluate: [{name: closed-loop}]
lock: {date: '2026-01-02', python: 3.11.7, cpu: {model: Fast One, count: 2}, gpus: []}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my-run"
    metrics = [
        {"stage": "train", "step": step, "loss": 3.0 - step / 200, "lr": 1e-4, "samples_per_second": 64.0}
        for step in range(10, 410, 10)
    ]
    write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))
    write(folder / "recipe.lock.yaml", LOCK)
    write(folder / "benchmark.json", {"rows": [{"name": "one", "p50_ms": 12.5}], "machine": "this one"})
    checkpoint = folder / "checkpoints/step-000400"
    write(checkpoint / "contract.json", contract().model_dump_json())
    write(
        checkpoint / "dataset_statistics.json",
        {"demos": {"action": {}, "num_transitions": 1234, "num_trajectories": 56}},
    )
    write_evaluation(folder / "evaluation/before-0-closed-loop", closed_loop(1))
    write_evaluation(folder / "evaluation/after-0-closed-loop", closed_loop(8))
    return folder


def test_the_page_tells_everything_and_loads_nothing(run: Path) -> None:
    page = Page(write_report(run).read_text())
    assert page.loads
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.loads)
    assert (
        "my-run policy openvla from tabletop-tiny · 400 steps of 32 samples · data demonstrations"
        in page.text
    )
    assert "before training 10.0 % [20.0, 90.0] · 1 of 10" in page.text
    assert "after training 80.0 % [20.0, 90.0] · 8 of 10 episodes" in page.text
    assert "told another object 20.0 %" in page.text
    assert "training 3.3 min" in page.text  # 400 steps of 32 samples, 64 a second
    assert "did not reach the original goal, told push the <red> cube" in page.text
    assert "Loss last 1 " in page.text
    assert "Always the same: roll = 0.500" in page.text
    assert "10007 push push the cube 40" in page.text
    assert "10009 push" not in page.text  # a swapped episode is meant to fail
    assert "one 12.50" in page.text
    assert "demos 56 1\u2009234" in page.text or "demos 56 1 234" in page.text
    assert "primary: 64 \u00d7 48, turned by 180°" in page.text
    assert "2 \u00d7 Fast One" in page.text
    assert "seed: 11" in page.text
    assert "<red>" not in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (None, "as the camera gives them"),
        (FrameRecipe(resample="fused"), "fused to 224 \u00d7 224"),
        (FrameRecipe(crop=0.9), "original to 224 \u00d7 224, the middle 0.9 of the area"),
    ],
)
def test_the_contract_says_what_is_made_of_a_picture(frame: FrameRecipe | None, words: str) -> None:
    images = contract().images.model_copy(update={"frame": frame, "size": 224})
    framing = contract().model_copy(update={"images": images})
    assert dict(contract_rows(framing.model_dump(mode="json")))["Frames"] == [words]


def test_self_check_and_held_out_data_are_shown(run: Path) -> None:
    assert "Self-check" not in (text := Page(write_report(run).read_text()).text)
    assert "held-out" not in text
    checked = {
        "frames": 32,
        "summary": ["self-check of step-000400: 75.0% of 32 ids as in training, 32 frames"],
        "problems": ["acting chooses <one> thing"],
        "warnings": ["hardly any change: z."],
    }
    write(run / "self_check.json", {"checkpoints": [checked]})
    lines = [{"stage": "validation", "step": step, "loss": 2.0 - step / 400} for step in (0, 200, 400)]
    with (run / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    text = Page(write_report(run).read_text()).text
    assert "75.0% of 32 ids as in training" in text
    assert "acting chooses <one> thing" in text
    assert "hardly any change: z." in text
    assert "On held-out data Loss last 1 " in text


def test_it_can_be_made_again_from_the_folder_alone(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_an_empty_folder_gets_a_page_that_says_so(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path).read_text())
    for said in ("no finished evaluation", "Nothing was trained", "no checkpoint", "no recipe.lock.yaml"):
        assert said in page.text


def test_a_run_that_stopped_early_says_how_far_it_came(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()[:12]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert "Training stopped at step 120 of 400." in Page(write_report(run).read_text()).text


ONE_LINE = {
    "stage": "train", "step": 1, "loss": None, "token_accuracy": 0.75, "token_accuracy/aa": 0.5,
    "l1": 0.25, "l1.x": 0.125, "l1/aa": 0.375, "samples_per_second": 52.6, "tokens_per_second": 1500.0,
    "peak_memory_gb": 12.5, "data_wait": 0.031, "total": 8,
}  # fmt: skip


def test_one_line_of_training_is_a_table_and_no_run_without_training(tmp_path: Path) -> None:
    write(tmp_path / "recipe.lock.yaml", LOCK.replace("steps: 400", "steps: 8"))
    write(tmp_path / "metrics.jsonl", json.dumps(ONE_LINE))
    text = Page(write_report(tmp_path).read_text()).text
    assert "Nothing was trained" not in text
    assert "Training stopped at step 1 of 8." in text
    assert "Figure training, step 1 Loss not finite Action token accuracy 75.0 % Action L1" in text
    for said in (
        "Action L1 of x 0.125", "Action token accuracy of aa 50.0 %",
        "Action L1 of aa 0.375", "Samples per second 52.60", "Tokens per second 1",
        "Peak memory [GB] 12.50", "Share of time waiting for data 3.1 %",
    ):  # fmt: skip
        assert said in text
    assert text.index("of x 0.125") < text.index("of aa"), "data sets stand last"


def test_held_out_data_stand_beside_and_are_no_training(tmp_path: Path) -> None:
    held_out = {"stage": "validation", "step": 4, "loss": 2.5, "l1.x": 0.5}
    write(tmp_path / "metrics.jsonl", json.dumps(held_out))
    text = Page(write_report(tmp_path).read_text()).text
    assert "Nothing was trained" in text
    assert "held-out data, step 4 Loss 2.50" in text
    write(tmp_path / "metrics.jsonl", f"{json.dumps(ONE_LINE)}\n{json.dumps(held_out)}")
    text = Page(write_report(tmp_path).read_text()).text
    assert "training, step 1 held-out data, step 4 Loss not finite 2.50" in text
    assert "of x 0.125 0.500" in text
    assert "of aa 50.0 % –" in text  # noqa: RUF001


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{name: rlds, dataset: bridge_orig}, {name: rlds, dataset: fractal}", "bridge_orig, fractal"),
        ("{name: open-x, mixture: bridge}", "bridge"),
        ("{name: mixture, data: [{name: rlds, dataset: aa}, {name: tfds, dataset: bb}]}", "aa, bb"),
    ],
)
def test_the_header_names_data_sets_engine_and_ranks(run: Path, data: str, said: str) -> None:
    lock = LOCK.replace("{name: demonstrations}", data).replace(
        "steps: 400", "steps: 400, engine: {name: fsdp}"
    )
    write(run / "recipe.lock.yaml", lock)
    assert f"samples · engine fsdp · data {said} · seed 11" in Page(write_report(run).read_text()).text
    write(run / "report.json", {"ranks": 8, "error": None})
    page = Page(write_report(run).read_text())
    assert f"engine fsdp on 8 ranks · data {said} · seed 11" in page.text
    assert "ended with an error" not in page.text


def test_steps_that_a_resumed_run_took_again_count_once(tmp_path: Path) -> None:
    steps = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 2.5), (30, 3.5)]
    lines = [json.dumps({"stage": "train", "step": step, "loss": loss}) for step, loss in steps]
    write(tmp_path / "metrics.jsonl", "\n".join([*lines[:3], '{"stage": "tr', *lines[3:], '{"sta']))
    rows = read_run(tmp_path).stages["train"]
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 1.0), (20, 2.5), (30, 3.5)]


def test_a_long_run_makes_a_small_page(tmp_path: Path) -> None:
    lines = [{"stage": "train", "step": step, "loss": step % 7, "lr": 1e-3} for step in range(1, 20_001)]
    write(tmp_path / "metrics.jsonl", "\n".join(map(json.dumps, lines)))
    page = write_report(tmp_path)
    assert page.stat().st_size < 60_000
    assert "Loss last" in Page(page.read_text()).text


def test_a_damaged_file_is_named(run: Path) -> None:
    (run / "evaluation/after-0-closed-loop/result.json").write_text("{")
    with pytest.raises(DataError, match=r"after-0-closed-loop/result.json: is not JSON"):
        write_report(run)


def test_open_loop_and_strangers_have_their_sections(tmp_path: Path) -> None:
    row = {"name": "x", "unit": "m", "l1": 0.0123, "l1_normalized": 0.25, "token_accuracy": 0.5}
    figures = {"frames": 256, "dataset": "demos", "token_accuracy": 0.5, "l1": 0.25, "dimensions": [row]}
    edges = [0.0, 0.5, 1.0]
    counts = {"policy": [5, 1], "recorded": [4, 2]}
    figures["actions"] = {"dimensions": [{"name": "x", "unit": "m", "edges": edges, "counts": counts}]}
    write(tmp_path / "evaluation/evaluate-0-open-loop/result.json", figures | {"summary": []})
    write(
        tmp_path / "evaluation/evaluate-1-stranger/result.json",
        {"summary": ["all is well", "indeed"], "success": 1, "dimensions": 3, "actions": []},
    )
    page = Page(write_report(tmp_path).read_text())
    assert "256 frames of demos: token accuracy 50.0 % , normalised L1 0.250 ." in page.text
    assert "x 0.012 m 0.250 50.0 %" in page.text
    assert "policy recorded" in page.text
    assert "stranger all is well indeed" in page.text


def test_the_observer_writes_it_when_the_run_ends(run: Path) -> None:
    observers = Observers([ReportConfig().build()])
    observers.tell.run_started(recipe=None, output=run)
    assert not (run / "report.html").exists()
    observers.tell.run_finished(error=RuntimeError("stopped"))
    assert "It ended with an error: RuntimeError: stopped" in Page((run / "report.html").read_text()).text
    assert observers.names == ("report",)


def test_the_error_stays_until_the_run_goes_on(run: Path) -> None:
    observers = Observers([ReportConfig().build()])
    observers.tell.run_started(recipe=None, output=run)
    observers.tell.run_finished(error=TrainingError("the loss of step 2 is <NaN>."))
    said = "It ended with an error: the loss of step 2 is <NaN>."
    assert said in Page((run / "report.html").read_text()).text
    assert said in Page(write_report(run).read_text()).text
    observers.tell.run_started(recipe=None, output=run)
    assert said not in Page(write_report(run).read_text()).text
