"""Peak memory of loading, converting and merging, beside reading all files first; Linux only."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.rows import Row, interleaved

__all__ = ["measure"]

SHARD_BYTES = 300_000_000
LAYERS, WIDTH, INNER = 10, 2048, 5632
"""A language model of half a thousand million parameters: 1 GB in bfloat16."""

MAKE = """
import sys
from pathlib import Path
import torch
from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.formats import lora
from openvla_toolkit.policies import OpenVLAConfig

layers, width, inner, shard, folder = *map(int, sys.argv[1:5]), Path(sys.argv[5])
tower = {"name": "timm", "models": ["vit_tiny_patch16_224"], "image_size": 64}
sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
         "num_attention_heads": 16, "num_key_value_heads": 16}
speaker = {"name": "causal-lm", "model_type": "llama", "settings": sizes, "tokenizer": "tabletop"}
policy = OpenVLAConfig.model_validate({"vision_backbone": tower, "language_model": speaker}).build()
(folder / "whole").mkdir()
policy.save(folder / "whole")
convert(folder / "whole", folder / "shards", to="hf", shard_bytes=shard)
halves = {}
for name, layer in policy.module.named_modules():
    if name.startswith("language_model.model") and isinstance(layer, torch.nn.Linear):
        halves[name + ".lora_A.default.weight"] = torch.randn(32, layer.in_features)
        halves[name + ".lora_B.default.weight"] = torch.randn(layer.out_features, 32)
settings = {"r": 32, "lora_alpha": 16, "target_modules": "all-linear"}
lora.write(folder / "adapter", halves, base="../shards", settings=settings)
"""
LOAD = """
from openvla_toolkit.checkpoints.load import load_policy

def load(folder):
    return load_policy(folder, dtype="bfloat16")
"""
READ_FIRST = """
from safetensors.torch import load_file

def load(folder):
    tensors = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        tensors |= load_file(file)
    model = {name: torch.empty_like(value) for name, value in tensors.items()}
    for name, value in model.items():  # what load_state_dict does
        value.copy_(tensors[name])
    return model
"""
CONVERT = """
import tempfile
from openvla_toolkit.checkpoints.convert import convert

def load(folder):
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as place:
        convert(folder, Path(place) / "new", to="hf", shard_bytes=300_000_000)
"""
MERGE_FIRST = """
from safetensors.torch import load_file, save_file
import tempfile

def load(folder):
    tensors = {}
    for file in sorted((Path(folder).parent / "shards").glob("*.safetensors")):
        tensors |= load_file(file)
    halves = load_file(Path(folder) / "adapter_model.safetensors")
    for name, down in halves.items():
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        if layer + ".weight" in tensors:
            up = halves[name.replace("lora_A", "lora_B")]
            tensors[layer + ".weight"] = (tensors[layer + ".weight"].float() + up @ down / 2).bfloat16()
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as place:
        save_file(tensors, Path(place) / "model.safetensors")
"""
REWRITE = """
from safetensors.torch import load_file, save_file
import tempfile

def load(folder):
    tensors = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        tensors |= load_file(file)
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as place:
        save_file(tensors, Path(place) / "model.safetensors")
"""
PEAK = """
import re, sys
from pathlib import Path
import openvla_toolkit.policies.prismatic.assembly
from openvla_toolkit.checkpoints.load import load_policy
import torch

{load}

def kilobytes(name):
    return int(re.search(rf"^{{name}}:\\s+(\\d+)", Path("/proc/self/status").read_text(), re.M)[1])

load_policy("tabletop-scenes")  # what is loaded once (libraries, components) does not count
torch.ones(64, 64) @ torch.ones(64, 64)
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
kept = load(sys.argv[1])
print((kilobytes("VmHWM") - before) / 1e3)
"""


def measure() -> list[Row]:
    """Load, convert and merge a generated checkpoint of 1 GB in fresh processes.

    Loading may take 1.2 of the largest file and the model; the others, which hold a tensor at a time, as
    much as the largest file.
    """
    with tempfile.TemporaryDirectory() as place:
        _python(MAKE, *map(str, (LAYERS, WIDTH, INNER, SHARD_BYTES)), place)
        shards, adapter = Path(place) / "shards", Path(place) / "adapter"
        sizes = [file.stat().st_size / 1e6 for file in shards.glob("*.safetensors")]
        loading = 1.2 * max(sizes) + sum(sizes), "1.2 x largest file + model"
        writing = max(sizes), "largest file"
        first = "safetensors' load_file of all files, then"
        return [
            _row("load_policy", shards, sizes, LOAD, READ_FIRST, f"{first} load_state_dict", loading),
            _row("convert", shards, sizes, CONVERT, REWRITE, f"{first} save_file", writing),
            _row("merging", adapter, sizes, CONVERT, MERGE_FIRST, f"{first} adding and save_file", writing),
        ]


def _row(
    what: str,
    folder: Path,
    sizes: Sequence[float],
    ours: str,
    theirs: str,
    peer: str,
    limit: tuple[float, str],
) -> Row:
    calls = {name: partial(_peak, code, folder) for name, code in (("ours", ours), ("peer", theirs))}
    figures = {name: max(values) for name, values in interleaved(calls).items()}
    return Row(
        name=f"peak memory of {what}, {sum(sizes) / 1e3:.2f} GB in {len(sizes)} files, bfloat16",
        value=figures["ours"],
        unit="MB",
        peer=peer,
        peer_value=figures["peer"],
        target=f"<= {limit[0]:.0f} MB ({limit[1]})",
        met=figures["ours"] <= limit[0],
        settings={"figure": "maximum", "repeats": 5, "largest file": f"{max(sizes):.0f} MB"},
    )


def _peak(code: str, folder: Path) -> float:
    return float(_python(PEAK.format(load=code), str(folder)))


def _python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it printed last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return (done.stdout.split() or ["0"])[-1]
