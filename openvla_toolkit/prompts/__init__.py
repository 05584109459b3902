"""Built-in prompt styles: the five of Prismatic and OpenVLA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from openvla_toolkit.interfaces.prompt import PromptConfig

if TYPE_CHECKING:
    from openvla_toolkit.prompts.styles import StyledPrompt

__all__ = ["Llama2ChatConfig", "MistralInstructConfig", "PhiConfig", "PureConfig", "VicunaConfig"]


class PureConfig(PromptConfig):
    """``In: ... Out: ...``, for language models that were never tuned to chat (openvla-7b)."""

    name: Literal["pure"] = "pure"
    system: None = None
    """This style has no system prompt."""

    def build(self) -> StyledPrompt:
        """Begin an empty conversation."""
        from openvla_toolkit.prompts.styles import StyledPrompt

        return StyledPrompt(human="In: {message}\nOut: ")


class Llama2ChatConfig(PromptConfig):
    """Llama-2 chat's ``[INST]`` turns."""

    name: Literal["llama2-chat"] = "llama2-chat"

    def build(self) -> StyledPrompt:
        """Begin an empty conversation."""
        from openvla_toolkit.prompts.styles import LLAMA2_SYSTEM, StyledPrompt

        # The original leaves out one bracket of <<SYS>>; released weights were trained with it that way.
        system = LLAMA2_SYSTEM if self.system is None else self.system.strip()
        return StyledPrompt(
            human="[INST] {message} [/INST] ", before_message=f"<<SYS>\n{system}\n<</SYS>>\n\n"
        )


class VicunaConfig(PromptConfig):
    """Vicuna v1.5's ``USER: ... ASSISTANT: ...`` (openvla-7b-v01)."""

    name: Literal["vicuna-v15"] = "vicuna-v15"

    def build(self) -> StyledPrompt:
        """Begin an empty conversation."""
        from openvla_toolkit.prompts.styles import VICUNA_SYSTEM, StyledPrompt

        system = VICUNA_SYSTEM if self.system is None else self.system.strip()
        return StyledPrompt(human="USER: {message} ASSISTANT: ", before_turn=f"{system} ")


class MistralInstructConfig(PromptConfig):
    """Mistral instruct's ``[INST]`` turns."""

    name: Literal["mistral-instruct"] = "mistral-instruct"
    system: None = None
    """This style has no system prompt."""

    def build(self) -> StyledPrompt:
        """Begin an empty conversation."""
        from openvla_toolkit.prompts.styles import StyledPrompt

        return StyledPrompt(human="[INST] {message} [/INST] ")


class PhiConfig(PromptConfig):
    """Phi-2's ``Input: ... Output: ...``, which writes the beginning-of-sequence token itself."""

    name: Literal["phi"] = "phi"
    system: None = None
    """This style has no system prompt."""

    def build(self) -> StyledPrompt:
        """Begin an empty conversation."""
        from openvla_toolkit.prompts.styles import PHI_END, StyledPrompt

        return StyledPrompt(
            human="Input: {message}\nOutput: ", gpt="{message}\n", end=PHI_END, before_turn=PHI_END
        )
