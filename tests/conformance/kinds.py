"""Which kinds of case of the kit are compared, which wait for later work, and which have no counterpart here.

A kind is a file of the kit, and inside recorded JSON and npz files what is under one name:
``folder/file.json: key``, ``folder/file.json: key[].field`` for the fields of a list of cases,
``folder/file.npz: array``. Patterns are those of the shell; ``*`` stands where the kit puts its own names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

COVERED = {
    "README.md": "kit.py",
    "tokenizer/*": "originals.py",
    "action_tokenizer/cases.json: *": "test_action_codes.py",
    "action_tokenizer/cases.npz: case*": "test_action_codes.py",
    "images/inputs/*": "test_pictures.py",
    "images/cases.json: cases[[][]].*": "test_pictures.py",
    "images/cases.json: processors.*": "test_pictures.py",
    "images/cases.json: batched[[][]].*": "test_pictures.py",
    "images/outputs_uint8.npz: *": "test_pictures.py",
    "images/native_transforms.json: cases[[][]].*": "test_backbone_pictures.py",
    "images/native_transforms.json: backbones.*": "test_backbone_pictures.py",
    "prompts/prompt_builders.json: cases[[][]].*": "test_prompts.py",
    "prompts/prompt_builders.json: gpt_first_raises": "test_prompts.py",
    "prompts/processor_ids.json: *": "test_tokens.py",
    "prompts/image.png": "test_tokens.py",
    "model/*/arch.json: *": "test_architecture.py",
    "model/*/images/*": "test_hugging_face.py",
    "model/*/hf/*": "test_conversion.py",
    "model/*/native/*": "test_run_folders.py",
    "model/*/key_map.json: *": "test_architecture.py",
    "model/*/pixel_values.json: *": "test_hugging_face.py",
    "model/*/hf_outputs.json: cases[[][]].*": "test_hugging_face.py",
    "model/*/hf_outputs.json: errors": "test_decoding.py",
    "model/*/hf_outputs.json: single_key_norm_stats_unnorm_key_none*": "test_decoding.py",
    "model/*/hf_outputs.json: eager_attention": "test_decoding.py",
    "model/*/hf_outputs.json: generate_batch_of_2": "test_decoding.py",
    "model/*/hf_outputs.json: bf16_cpu_runs[[][]].*": "test_decoding.py",
    "model/*/hf_outputs.json: attn_implementation": "test_decoding.py",
    "model/*/hf_outputs.json: model_vocab_size_after_padding_removed": "test_decoding.py",
    "model/*/arrays.npz: im*_projector_features": "test_activations.py",
    "model/*/arrays.npz: im*_vision_features_*": "test_activations.py",
    "model/*/arrays.npz: im*_task*_logits_*": "test_activations.py",
    "model/*/arrays.npz: im*_task*_llm_hidden_*": "test_activations.py",
    "model/*/arrays.npz: language_only_logits_*": "test_activations.py",
    "model/*/arrays.npz: native_train_logits_*": "test_run_folders.py",
    "model/*/native_outputs.json: *": "test_run_folders.py",
    "model/*/train_step.json: *": "test_train_step.py",
    "lora/adapter/*": "test_adapters.py",
    "lora/arrays.npz: *": "test_adapters.py",
    "lora/expected.json: base": "test_adapters.py",
    "lora/expected.json: cases[[][]].*": "test_adapters.py",
    "lora/expected.json: lora_alpha": "test_adapters.py",
    "lora/expected.json: rank": "test_adapters.py",
    "lora/expected.json: train_batch": "test_train_step.py",
    "lora/expected.json: full_finetuning*": "test_train_step.py",
    "lora/expected.json: lora_training*": "test_lora_training.py",
    "lora/all_linear_targets.json: *": "test_lora_training.py",
    "vlm_data/images/*": "test_conversations.py",
    "vlm_data/finetune.json": "test_conversations.py",
    "vlm_data/expected.json: finetune.*.items[[][]].*": "test_conversations.py",
    "vlm_data/expected.json: tokenizer_model_max_length": "test_conversations.py",
    "rlds/expected/batch_transform.json: prompt": "test_tokens.py",
    "rlds/expected/batch_transform.json: cases[[][]].*": "test_tokens.py",
    "rlds/data/*": "data_sets.py",
    "rlds/expected/dataset_statistics.json: *": "test_statistics.py",
    "rlds/expected/saved_by_save_dataset_statistics/*": "test_statistics.py",
    "rlds/expected/trajectories.json": "test_trajectories.py",
    "rlds/expected/trajectories.npz: *": "test_trajectories.py",
    "rlds/expected/mixtures.json: mixtures[[][]].*": "test_mixtures.py",
    "rlds/expected/mixtures.json: named_mixtures*": "test_mixtures.py",
    "rlds/expected/rlds_dataset_end_to_end.json": "test_policy_samples.py",
    "oxe_transforms/cases.json: *": "test_open_x.py",
    "oxe_transforms/arrays.npz: *": "test_open_x.py",
    "rlds/expected/raw/*": "test_image_operations.py",
    "rlds/expected/jpeg/*": "test_image_operations.py",
    "rlds/expected/image_ops.json": "test_image_operations.py",
    "rlds/expected/image_ops.npz: *": "test_image_operations.py",
    "rlds/expected/augment_ops.json: *": "test_augmentation.py",
    "rlds/expected/augment_ops.npz: *": "test_augmentation.py",
    "eval_utils/in_*.png": "test_image_operations.py",
    "eval_utils/cases.json: center_crop*": "test_image_operations.py",
    "eval_utils/arrays.npz: crop_*": "test_image_operations.py",
    "training/registered_configs.json: vla.*": "test_catalog.py",
    "training/registered_configs.json: model.*": "test_catalog.py",
    "training/stages_*.json: all_parameters": "test_freezing.py",
    "training/stages_*.json: stages*": "test_freezing.py",
    "training/lr_schedules.json*": "test_schedules.py",
    "training/metrics_jsonl.json: *": "test_metrics.py",
}
"""Kind -> the module here that compares it (of inputs: that reads it)."""

LATER = {
    "training/registered_configs.json: dataset.*": "vision-language training: downloads",
    "vlm_data/align.json": "vision-language training: the alignment stage",
    "vlm_data/expected.json: align.*": "vision-language training: the alignment stage",
    "vlm_data/expected.json: finetune.*.modality_lengths": "vision-language training: the sampler",
    "vlm_data/expected.json: collator_*": "vision-language training: batches",
    "vlm_data/expected.json: split_modality_sampler*": "vision-language training: the sampler",
    "eval_utils/cases.json: [!c]*": "evaluation: LIBERO and WidowX",
    "eval_utils/arrays.npz: [!c]*": "evaluation: LIBERO and WidowX",
    "eval_utils/*.jpg": "evaluation: LIBERO and WidowX",
    "eval_utils/libero_noop.json*": "evaluation: LIBERO and WidowX",
    "deploy/*": "serving",
}
"""Kind -> the work that it waits for."""

FOREIGN = {
    "rlds/expected/mixtures.json: allocate_threads[[][]].*": "how tf.data shares out its reading threads",
}
"""Kind -> what it is of the original that ours has nothing of."""

_OPAQUE = re.compile(r"(tokenizer|model/[^/]+/(hf|native)|lora/adapter|rlds/data|rlds/expected/saved_.*)/")
"""Files of the formats themselves: one kind each, whatever is in them."""


def kinds(root: Path) -> Iterator[str]:
    """Yield every kind of case that lies in a kit."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        place = path.relative_to(root).as_posix()
        names = [] if _OPAQUE.match(place) else sorted(set(_names(path)))
        yield from ([f"{place}: {name}" for name in names] or [place])


def homes(kind: str) -> list[str]:
    """Return the patterns of the tables that a kind fits; exactly one is right."""
    return [pattern for table in (COVERED, LATER, FOREIGN) for pattern in table if fnmatchcase(kind, pattern)]


def _names(path: Path) -> Iterator[str]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            yield from file.files
    elif path.suffix == ".json":
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            for key, value in content.items():
                yield from _below(key, value)


def _below(name: str, value: Any) -> Iterator[str]:
    """Yield the names of the cases under a name: lists of records and folders in folders are opened."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        yield from (f"{name}[].{field}" for entry in value for field in entry)
    elif (
        isinstance(value, dict) and value and all(isinstance(entry, (dict, list)) for entry in value.values())
    ):
        for key, entry in value.items():
            yield from _below(f"{name}.{key}", entry)
    else:
        yield name
