"""Checks of the networks that a policy is assembled from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openvla_toolkit.interfaces.language_model import LanguageModelConfig
from openvla_toolkit.interfaces.vision_backbone import VisionBackboneConfig
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_language_model", "check_vision_backbone"]


def check_vision_backbone(config: VisionBackboneConfig) -> None:
    """Check a vision backbone; pick small settings, it is executed.

    Checked: the settings, and that ``architecture`` builds the same parameters; that parameters are named
    ``featurizer.*`` or ``fused_featurizer.*``; that ``image_recipe`` has one mean and deviation per tower;
    that features are [N, num_patches, embed_dim], finite, depend on the picture and on no other picture of
    the batch; that something can be learned; that ``shard_units`` are modules of its own.
    """
    check_settings(config, VisionBackboneConfig)
    built = config.build()
    expect(isinstance(built, nn.Module), config, expected="an nn.Module", found=type(built).__name__)
    module: nn.Module = built  # type: ignore[assignment]  # the protocol does not say what was just checked
    module.eval()
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    strangers = [name for name in shapes if not name.startswith(("featurizer.", "fused_featurizer."))]
    expect(
        not strangers, config, expected="parameters under featurizer or fused_featurizer", found=strangers[:3]
    )
    bare: nn.Module = config.architecture().build()  # type: ignore[assignment]
    same = {name: tuple(value.shape) for name, value in bare.state_dict().items()} == shapes
    expect(same, config, expected="architecture() to build the same parameters", found="others")
    recipe = built.image_recipe()
    towers = 1 + any(name.startswith("fused_featurizer.") for name in shapes)
    found = (len(recipe.means), len(recipe.stds))
    expect(found == (towers, towers), config, expected=f"means and stds of {towers} tower(s)", found=found)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3 * towers, recipe.size, recipe.size, generator=generator)
    features = built(pixels)
    shape = (2, built.num_patches, built.embed_dim)
    expect(tuple(features.shape) == shape, config, expected=f"features {shape}", found=tuple(features.shape))
    expect(bool(features.isfinite().all()), config, expected="finite features", found="NaN or infinity")
    differ = not torch.allclose(features[0], features[1])
    expect(differ, config, expected="two pictures to have two sets of features", found="the same")
    alone = torch.allclose(built(pixels[:1])[0], features[0], atol=1e-4)
    expect(
        alone,
        config,
        expected="features of a picture to be its own",
        found="others when it is alone in the batch",
    )
    features.sum().backward()  # type: ignore[no-untyped-call]
    learning = [name for name, value in module.named_parameters() if value.grad is not None]
    expect(bool(learning), config, expected="parameters that take a gradient", found="none")
    own = set(module.modules())
    units = built.shard_units()
    expect(
        bool(units) and own.issuperset(units),
        config,
        expected="shard_units() to be modules of its own",
        found=units,
    )


def check_language_model(config: LanguageModelConfig, *, text: str = "pick up the red cube") -> None:
    """Check a language model; pick small settings, it is executed.

    Checked: the settings; that the tokenizer writes ``text`` and reads it back, and has ids for beginning,
    end and padding, the last one different from the end; that every id has an embedding; that embeddings
    go in and logits over all rows come out, finite, and blind to what comes later; that it takes a gradient.
    """
    check_settings(config, LanguageModelConfig)
    module, tokenizer = config.build()
    module.train(mode=False)
    for role in ("bos", "eos", "pad"):
        expect(
            getattr(tokenizer, f"{role}_token_id") is not None,
            config,
            expected=f"a {role} token",
            found="none",
        )
    distinct = tokenizer.pad_token_id != tokenizer.eos_token_id
    expect(
        distinct, config, expected="a padding id of its own", found=f"{tokenizer.pad_token_id}, the end's id"
    )
    ids = tokenizer(text)["input_ids"]
    read = str(tokenizer.decode(ids, skip_special_tokens=True))
    expect(read.strip() == text, config, expected=f"the tokenizer to read back {text!r}", found=repr(read))
    embeddings: Any = module.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    expect(rows >= len(tokenizer), config, expected=f"{len(tokenizer)} embeddings, one per id", found=rows)
    given = embeddings(torch.tensor([ids, ids]))
    given = torch.cat([given[:, :-1], given[:, -1:] + torch.tensor([[[0.0]], [[1.0]]])], dim=1)
    logits = module(inputs_embeds=given).logits
    shape = (2, len(ids), rows)
    expect(tuple(logits.shape) == shape, config, expected=f"logits {shape}", found=tuple(logits.shape))
    expect(bool(logits.isfinite().all()), config, expected="finite logits", found="NaN or infinity")
    causal = torch.allclose(logits[0, :-1], logits[1, :-1], atol=1e-4)
    expect(
        causal,
        config,
        expected="logits that do not depend on what comes later",
        found="a model that looks ahead",
    )
    logits.logsumexp(-1).sum().backward()
    learning = any(value.grad is not None for value in module.parameters())
    expect(learning, config, expected="parameters that take a gradient", found="none")
