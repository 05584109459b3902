"""What the train stage costs beside a hand-written PyTorch loop, and what its checkpoints cost."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rows import Row, interleaved, spread
from benchmarks.training.checkpoints import measure_stall
from openvla_toolkit.core.hooks import Observers, observe
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Batch, Optimizer, Train
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.stages.prepare import Prepared, prepare, robot_of, sources, statistics_of
from openvla_toolkit.stages.training.train import train
from openvla_toolkit.testing import tiny_policy

__all__ = ["measure"]

WARMUP, STEPS, BATCH, REPEATS, TARGET = 5, 25, 32, 5, 0.95
WIDTH, DEPTH, VIEW = 128, 3, 64
LR, CLIP = 1e-3, 1.0


def measure() -> list[Row]:
    """Measure samples per second of both loops, in turns; loading and decoding is part of both."""
    with tempfile.TemporaryDirectory() as folder, _cache(Path(folder)):
        prepared = _data(Path(folder))
        runs = iter(range(10**6))
        figures = interleaved(
            {
                "ours": lambda: _toolkit(prepared, Path(folder) / f"run-{next(runs)}"),
                "peer": lambda: _bare(prepared),
            },
            repeats=REPEATS,
        )
        stall = measure_stall(_policy(prepared), _batch(prepared), Path(folder) / "checkpoints")
    ours, peer = statistics.median(figures["ours"]), statistics.median(figures["peer"])
    settings = {
        "model": f"ViT {DEPTH} x {WIDTH}, Llama {DEPTH} x {WIDTH}, two {VIEW} pixel views, fp32, CPU",
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "steps": STEPS - WARMUP,
        "figure": "median",
        "spread": spread(figures["ours"]),
        "peer_spread": spread(figures["peer"]),
        "repeats": REPEATS,
        "order": "interleaved",
    }
    return [
        Row(
            name="train stage, single engine",
            value=ours,
            unit="samples/s",
            peer="hand-written PyTorch loop",
            peer_value=peer,
            target=f"ratio >= {TARGET}",
            met=ours / peer >= TARGET,
            settings=settings,
        ),
        *stall,
    ]


class _Clock:
    """An observer that notes when steps were done."""

    name = "clock"

    def __init__(self) -> None:
        self.times: dict[int, float] = {}

    @observe
    def metrics_logged(self, stage: str, step: int) -> None:
        if stage == "train":
            self.times[step] = time.perf_counter()


def _toolkit(prepared: list[Prepared], output: Path) -> float:
    """Train with the stage; the time runs from the end of the warm-up to the last step."""
    clock = _Clock()
    optimizer, batch = Optimizer(lr=LR), Batch(total=BATCH)
    section = Train(optimizer=optimizer, steps=STEPS, batch=batch, clip_norm=CLIP, log_every=WARMUP)
    train(section, _policy(prepared), prepared, seed=0, output=output, tell=Observers([clock]).tell)
    return (STEPS - WARMUP) * BATCH / (clock.times[STEPS] - clock.times[WARMUP])


def _bare(prepared: list[Prepared]) -> float:
    """Train with what one would write by hand: shuffle, encode, forward, backward, clip, step."""
    policy = _policy(prepared)
    (samples,), _ = sources(prepared, policy.contract, seed=0, tell=Observers([]).tell)
    order = np.random.default_rng(0).permutation(len(samples))
    module = policy.module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, weight_decay=0.0, fused=True)
    began = 0.0
    for step in range(STEPS):
        if step == WARMUP:
            began = time.perf_counter()
        numbers = range(step * BATCH, (step + 1) * BATCH)
        chosen = [samples.sample(int(order[number % len(order)]), number=number) for number in numbers]
        arrays = policy.processor.collate([policy.processor.encode(sample) for sample in chosen])
        batch = {key: torch.from_numpy(array) for key, array in arrays.items()}
        report = policy.loss(module, batch)
        (report.total / report.count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (STEPS - WARMUP) * BATCH / (time.perf_counter() - began)


def _batch(prepared: list[Prepared]) -> Mapping[str, Any]:
    policy = _policy(prepared)
    (samples,), _ = sources(prepared, policy.contract, seed=0, tell=Observers([]).tell)
    chosen = [samples.sample(number, number=number) for number in range(BATCH)]
    return policy.processor.collate([policy.processor.encode(sample) for sample in chosen])


def _data(folder: Path) -> list[Prepared]:
    settings: Mapping[str, Any] = {
        "name": "demonstrations",
        "environment": {"name": "tabletop", "world": {"image_size": VIEW}},
        "root": folder,
        "dataset": "bench",
        "episodes": 40,
    }
    config: Any = by_name("dataset")(settings)
    return prepare([config], Observers([]).tell)


def _policy(prepared: list[Prepared]) -> Policy:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 4 * WIDTH}
    shape = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "max_position_embeddings": 256, **heads}
    tower = {"patch_size": 16, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 4}
    vision = {"name": "timm", "models": ["vit_tiny_patch16_224"], "image_size": VIEW, "options": tower}
    language = {"name": "causal-lm", "model_type": "llama", "settings": shape, "tokenizer": "tabletop"}
    config = tiny_policy(vision_backbone=vision, language_model=language)
    return config.build(robot=robot_of(prepared), statistics=statistics_of(prepared))


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """Keep the index of the benchmark's data out of the user's cache."""
    before = os.environ.get("OPENVLA_CACHE")
    os.environ["OPENVLA_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPENVLA_CACHE"]
        else:
            os.environ["OPENVLA_CACHE"] = before
