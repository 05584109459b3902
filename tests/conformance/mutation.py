"""A kit of the same layout with other values, sizes and counts, made from a kit by changes of known effect.

* Names of models, pictures, cases and data sets are others, and there are fewer of everything.
* Every model has one more layer, and one more block in each tower, that add nothing: their outputs are zero.
  So the sizes, the names of tensors and the hidden states are others, and every output is known.
* Actions are scaled by other statistics; what is expected follows from the recorded ids.
* An adapter of the model goes to the new layers too. Learning rates are doubled, and losses halved.
* Of data there is one set, under another name and in other shards (see ``mutated_data``).
* The action codes are others; what is expected is counted with Python's own integers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conformance.mutated_data import mutate_data
from tests.conformance.mutated_pictures import mutate_pictures

MODEL = "other"
RUN = "a-run-of-mine"
KEPT = 3
"""Cases of the model that are kept."""
PICTURES = {"images/0.png": "images/view.png"}
NUMBERS = {"im0": "im7"}


def mutate(kit: Path, target: Path) -> None:
    """Write the changed kit into an empty folder."""
    shutil.copytree(kit / "tokenizer", target / "tokenizer")
    folder = target / "model" / MODEL
    shutil.copytree(kit / "model" / "fused", folder)
    next((folder / "native").iterdir()).rename(folder / "native" / RUN)
    (folder / "train_step.json").unlink()
    _fewer_cases(folder)
    _deeper(folder)
    _other_statistics(folder)
    _other_adapter(kit, target / "lora")
    _other_training(kit, target / "training")
    _other_codes(kit, target / "action_tokenizer")
    _other_picture(target / "images")
    _fewer_prompts(kit, target / "prompts")
    mutate_data(kit, target)
    mutate_pictures(target)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change the content of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _fewer_cases(folder: Path) -> None:
    for old, new in PICTURES.items():
        (folder / old).rename(folder / new)
    for picture in set((folder / "images").iterdir()) - {folder / name for name in PICTURES.values()}:
        picture.unlink()

    def fewer(content: Any) -> None:
        content["cases"] = [case for case in content["cases"] if case["image"] in PICTURES][:KEPT]
        content["bf16_cpu_runs"] = [run for run in content.get("bf16_cpu_runs", ()) if run["image"] == 0]
        for case in [*content["cases"], content.get("generate_text", {})]:
            case["image"] = PICTURES[case["image"]] if case else None
            if "id" in case:
                case["id"] = _renumbered(case["id"])

    for name in ("hf_outputs.json", "native_outputs.json", "pixel_values.json"):
        edit(folder / name, fewer)
    edit(folder / "native_outputs.json", lambda content: content.pop("bf16_cpu_runs"))
    edit(folder / "pixel_values.json", lambda content: content.pop("bf16_cpu_runs"))
    with np.load(folder / "arrays.npz") as stored:
        kept = {_renumbered(name): stored[name] for name in stored.files if name.split("_")[0] in NUMBERS}
    np.savez(folder / "arrays.npz", **kept)


def _renumbered(name: str) -> str:
    number, _, rest = name.partition("_")
    return f"{NUMBERS[number]}_{rest}"


def _deeper(folder: Path) -> None:
    arch = json.loads((folder / "arch.json").read_text())
    layers = arch["llm"]["num_hidden_layers"]
    depths = {name: tower["depth"] for name, tower in arch["featurizer"].items()}
    weights = load_file(folder / "hf" / "model.safetensors")
    save_file(
        _with_more_layers(weights, layers, depths), folder / "hf" / "model.safetensors", {"format": "pt"}
    )
    (run,) = (folder / "native").glob("*/checkpoints/*.pt")
    native = torch.load(run, weights_only=True)
    named = {
        f"{module}.{key}": value for module, part in native["model"].items() for key, value in part.items()
    }
    own = dict(zip(("dino_featurizer", "siglip_featurizer"), depths.values(), strict=True))
    for name, value in _with_more_layers(named, layers, own).items():
        module, _, key = name.partition(".")
        native["model"][module][key] = value
    torch.save(native, run)
    edit(
        folder / "hf" / "config.json",
        lambda config: config["text_config"].update(num_hidden_layers=layers + 1),
    )
    edit(folder / "arch.json", lambda content: content["llm"].update(num_hidden_layers=layers + 1))
    for tower, depth in depths.items():
        edit(
            folder / "arch.json",
            lambda content, t=tower, d=depth: content["featurizer"][t].update(depth=d + 1),
        )  # type: ignore[misc]
    edit(folder / "key_map.json", lambda content: _map_more_layers(content["map"], layers, depths))
    with np.load(folder / "arrays.npz") as stored:
        last = re.compile(rf"_llm_hidden_{layers}_")  # the one after the last norm
        moved = {last.sub(f"_llm_hidden_{layers + 1}_", name): stored[name] for name in stored.files}
    np.savez(folder / "arrays.npz", **moved)


def _with_more_layers(named: dict[str, Tensor], layers: int, depths: dict[str, int]) -> dict[str, Tensor]:
    """Append a layer, and to each tower a block, of which what adds to the stream is zero.

    Features are read before a tower's last block, so the block that used to be last must add nothing now.
    """
    more = dict(named)
    for name, value in named.items():
        if match := re.search(r"(.*[.]layers[.])0([.].*)", name):
            adds = match[2].endswith(("o_proj.weight", "down_proj.weight"))
            more[f"{match[1]}{layers}{match[2]}"] = torch.zeros_like(value) if adds else value.clone()
        for tower, depth in depths.items():
            if match := re.search(rf"(.*[.]{tower}[.]blocks[.]){depth - 1}([.].*)", name):
                adds = match[2].startswith((".attn.proj.", ".mlp.fc2."))
                more[f"{match[1]}{depth}{match[2]}"] = value.clone()
                more[name] = torch.zeros_like(value) if adds else value
    return more


def _map_more_layers(mapped: dict[str, Any], layers: int, depths: dict[str, int]) -> None:
    for name, entry in list(mapped.items()):
        for pattern, number in [(r"[.]layers[.]0[.]", layers)] + [
            (rf"[.]{tower}[.]blocks[.]{depth - 1}[.]", depth) for tower, depth in depths.items()
        ]:
            if re.search(pattern, name):
                index = re.compile(r"(layers|blocks)[.]\d+")
                again = {**entry, "native_key": index.sub(rf"\1.{number}", entry["native_key"])}
                mapped[index.sub(rf"\1.{number}", name)] = again


def _other_statistics(folder: Path) -> None:
    (run,) = (folder / "native").iterdir()
    before = json.loads((folder / "hf" / "dataset_statistics.json").read_text())
    after = {f"set-{key}": _stretched(entry) for key, entry in before.items()}
    for place in (folder / "hf" / "dataset_statistics.json", run / "dataset_statistics.json"):
        place.write_text(json.dumps(after))
    edit(folder / "hf" / "config.json", lambda config: config.update(norm_stats=after))

    def scale(content: Any) -> None:
        for case in content["cases"]:
            case["predict_action"] = {
                f"set-{key}": {
                    **entry,
                    "action": _rescaled(entry["action"], before[key], after[f"set-{key}"]),
                }
                for key, entry in case["predict_action"].items()
            }
        first = content["cases"][0]["predict_action"]
        content["errors"] = {name: f"AssertionError: {sorted(after)}" for name in ("None", "nothing", "x")}
        only, entry = next(iter(first.items()))
        content["single_key_norm_stats_unnorm_key_none"] = {
            "norm_stats": {"one": only},
            "action": entry["action"],
        }
        content["eager_attention"]["action_without_attention_mask"] = entry["action"]

    def scale_native(content: Any) -> None:
        for case in content["cases"]:
            key = case["unnorm_key"]
            case["action"] = _rescaled(case["action"], before[key], after[f"set-{key}"])
            case["unnorm_key"] = f"set-{key}"

    edit(folder / "hf_outputs.json", scale)
    edit(folder / "native_outputs.json", scale_native)


def _stretched(entry: dict[str, Any]) -> dict[str, Any]:
    action = entry["action"]
    low = [3 * value - 2 for value in action["q01"]]
    widths = [right - left for left, right in zip(action["q01"], action["q99"], strict=True)]
    high = [left + (5 + number) * bool(widths[number]) for number, left in enumerate(low)]
    return {**entry, "action": {**action, "q01": low, "q99": high}}


def _rescaled(action: list[float], before: dict[str, Any], after: dict[str, Any]) -> list[float]:
    old, new = before["action"], after["action"]
    mask = old.get("mask") or [True] * len(action)
    rescaled = []
    for number, value in enumerate(action):
        width = old["q99"][number] - old["q01"][number]
        share = (value - old["q01"][number]) / width if width else 0.0
        spread = new["q99"][number] - new["q01"][number]
        rescaled.append(new["q01"][number] + share * spread if mask[number] else value)
    return rescaled


def _other_adapter(kit: Path, folder: Path) -> None:
    """State which layers of the deeper model get an adapter: the new ones as the first ones."""
    stated = json.loads((kit / "lora" / "all_linear_targets.json").read_text())["fused"]
    arch = json.loads((kit / "model" / "fused" / "arch.json").read_text())
    sizes = dict(stated["trainable"])
    numbers = [("layers", arch["llm"]["num_hidden_layers"])]
    numbers += [(f"{name}[.]blocks", tower["depth"]) for name, tower in arch["featurizer"].items()]
    for name, size in list(sizes.items()):
        for owner, number in numbers:
            if match := re.search(rf"(.*[.]{owner}[.])0([.].*)", name):
                sizes[f"{match[1]}{number}{match[2]}"] = size
    count = sum(int(np.prod(size)) for size in sizes.values())
    other = {**stated, "trainable": list(sizes.items()), "n_trainable_params": count}
    folder.mkdir()
    (folder / "all_linear_targets.json").write_text(json.dumps({MODEL: other}))


def _other_training(kit: Path, folder: Path) -> None:
    shutil.copytree(kit / "training", folder)
    for place in [*folder.glob("stages_*.json"), folder / "registered_configs.json"]:
        place.unlink()  # they are about the models that are left out

    def doubled(runs: Any) -> None:
        del runs[1:3]
        for run in runs:
            run["learning_rate"] *= 2
            for key in ("lr_used_at_step", "lr_logged_after_step"):
                run[key] = [2 * rate for rate in run[key]]

    def halved(content: Any) -> None:
        del content["status_strings"]
        (lines,) = [lines for name, lines in content["files"].items() if name != "run-metrics.jsonl"]
        for line in lines:
            line["VLA Train/Loss"] = line["VLA Train/Loss (Raw)"] = line["VLA Train/Loss"] / 2
            line["my_robot/L1 Loss"] = 0.75

    edit(folder / "lr_schedules.json", doubled)
    edit(folder / "metrics_jsonl.json", halved)


def _other_codes(kit: Path, folder: Path) -> None:
    folder.mkdir()
    random, arrays, cases = np.random.default_rng(5), {}, []
    for index, (vocabulary, bins, low, high) in enumerate([(1000, 17, -0.5, 2.0), (77, 4, -3.0, -1.0)]):
        edges = np.linspace(low, high, bins)
        centers = [(left + right) / 2 for left, right in pairwise(edges)]

        def decoded(number: int, vocabulary: int = vocabulary, centers: list[float] = centers) -> float:
            return centers[min(max(vocabulary - number - 1, 0), len(centers) - 1)]

        for dtype in ("float64", "float32"):
            actions = random.uniform(low - 1, high + 1, (3, 5)).astype(dtype)
            ids = [vocabulary - int((edges <= min(max(x, low), high)).sum()) for x in actions.flat]
            arrays[f"case{index}_{dtype}_actions"] = actions
            arrays[f"case{index}_{dtype}_token_ids"] = np.array(ids).reshape(actions.shape)
            arrays[f"case{index}_{dtype}_decoded"] = np.array([decoded(x) for x in ids]).reshape(
                actions.shape
            )
        probe = [-5, 0, vocabulary - 2, vocabulary, 10 * vocabulary]
        arrays[f"case{index}_decode_probe_ids"] = np.array(probe)
        arrays[f"case{index}_decode_probe_actions"] = np.array([decoded(number) for number in probe])
        arrays[f"case{index}_bins"], arrays[f"case{index}_bin_centers"] = edges, np.array(centers)
        stated = {
            "index": index,
            "vocab_size": vocabulary,
            "n_bins": bins,
            "min_action": low,
            "max_action": high,
        }
        begin = {"action_token_begin_idx": vocabulary - bins - 1, "vocab_size_property": bins}
        cases.append({**stated, **begin})
    np.savez(folder / "cases.npz", **arrays)
    content = json.loads((kit / "action_tokenizer" / "cases.json").read_text(encoding="utf-8"))
    content["cases"] = cases
    content["strings_1d"], content["strings_2d"] = content["strings_1d"][:2], content["strings_2d"][:1]
    (folder / "cases.json").write_text(json.dumps(content), encoding="utf-8")


def _other_picture(folder: Path) -> None:
    """Record what Pillow and plain arithmetic make of a picture, at another size and with other constants."""
    size, mean, std = 42, [0.25, 0.5, 0.75], [0.5, 0.25, 1.0]
    (folder / "inputs").mkdir(parents=True)
    noise = np.random.default_rng(6).integers(0, 256, (30, 65, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "inputs" / "noise.png")
    square = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR)).transpose(
        2, 0, 1
    )
    scaled = square.astype(np.float32) / np.float32(255)
    values = (scaled - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    case = {
        "name": "mine/resize-naive/noise",
        "config": "mine",
        "strategy": "resize-naive",
        "image": "noise",
        "shape": list(values.shape),
        "dtype": "float32",
        "sha256_float32": hashlib.sha256(values.tobytes()).hexdigest(),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "sample_index": [[0, 1, 2], [2, 41, 0]],
        "sample_value": [float(values[0, 1, 2]), float(values[2, 41, 0])],
        "uint8_sha256": [hashlib.sha256(square.tobytes()).hexdigest()],
        "requantised_exact": [True],
        "requantised_max_abs_err": [0.0],
    }
    settings = {
        "image_processor_type": "PrismaticImageProcessor",
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, size, size]],
        "interpolations": ["bilinear"],
        "means": [mean],
        "stds": [std],
        "tvf_crop_params": [{"output_size": [size, size]}],
        "tvf_do_letterbox": False,
        "tvf_letterbox_fill": None,
        "tvf_normalize_params": [{"inplace": False, "mean": mean, "std": std}],
        "tvf_resize_params": [
            {"antialias": True, "interpolation": 2, "max_size": None, "size": [size, size]}
        ],
        "use_fused_vision_backbone": False,
    }
    pair = np.stack([values, values])
    batch = {
        "config": "mine",
        "strategy": "resize-naive",
        "images": ["noise", "noise"],
        "shape": list(pair.shape),
        "sha256_float32": hashlib.sha256(pair.tobytes()).hexdigest(),
    }
    content = {"cases": [case], "processors": {"mine/resize-naive": settings}, "batched": [batch]}
    (folder / "cases.json").write_text(json.dumps(content))


def _fewer_prompts(kit: Path, folder: Path) -> None:
    shutil.copytree(kit / "prompts", folder)
    for name in ("prompt_builders.json", "processor_ids.json"):
        edit(folder / name, lambda content: content.update(cases=content["cases"][::9]))
