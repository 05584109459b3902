"""Memory that loading a checkpoint takes at its peak, beside reading all files first; Linux only."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Row, interleaved

__all__ = ["measure"]

SHARD_BYTES = 300_000_000
LAYERS, WIDTH, INNER = 10, 2048, 5632
"""A language model of half a thousand million parameters: 1 GB in bfloat16."""

MAKE = """
import sys
from pathlib import Path
from openvla_toolkit.checkpoints.convert import convert
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
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
kept = load(sys.argv[1])
print((kilobytes("VmHWM") - before) / 1e3)
"""


def measure() -> list[Row]:
    """Load a generated checkpoint of 1 GB in fresh processes; the limit is 1.2 shards and the model."""
    with tempfile.TemporaryDirectory() as place:
        _python(MAKE, *map(str, (LAYERS, WIDTH, INNER, SHARD_BYTES)), place)
        folder = Path(place) / "shards"
        sizes = [file.stat().st_size / 1e6 for file in folder.glob("*.safetensors")]
        calls = {
            "ours": lambda: float(_python(PEAK.format(load=LOAD), str(folder))),
            "peer": lambda: float(_python(PEAK.format(load=READ_FIRST), str(folder))),
        }
        figures = {name: max(values) for name, values in interleaved(calls).items()}
    limit = 1.2 * max(sizes) + sum(sizes)
    row = Row(
        name=f"peak memory of load_policy, {sum(sizes) / 1e3:.2f} GB in {len(sizes)} files, bfloat16",
        value=figures["ours"],
        unit="MB",
        peer="safetensors' load_file of all files, then load_state_dict",
        peer_value=figures["peer"],
        target=f"<= {limit:.0f} MB (1.2 x largest file + model)",
        met=figures["ours"] <= limit,
        settings={"figure": "maximum", "repeats": 5, "largest file": f"{max(sizes):.0f} MB"},
    )
    return [row]


def _python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it printed last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return (done.stdout.split() or ["0"])[-1]
