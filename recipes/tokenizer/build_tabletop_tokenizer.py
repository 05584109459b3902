"""Build the shipped tokenizer ``tabletop``: Llama-2's layout, and every word of the tabletop world one piece.

    python recipes/tokenizer/build_tabletop_tokenizer.py FOLDER

Layout: ``<unk>`` 0, ``<s>`` 1, ``</s>`` 2, the 256 bytes (any text can be written), the pieces, and 256
reserved ids at the end of the vocabulary for action bins. White space is written as '▁' in front of a word;
'▁' alone is a
piece too, as in Llama-2. Spare colours, objects and verbs are there for worlds that come later.
"""

from __future__ import annotations

import argparse
import json
import string
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<unk>", "<s>", "</s>")
ACTION_IDS = 256
SPACE = "▁"

COLOURS = """
red green blue yellow white black orange purple cyan magenta pink brown gray grey gold silver teal
olive navy maroon violet lime turquoise beige crimson indigo coral tan ivory lavender dark light
bright pale
"""
OBJECTS = """
cube cylinder ball prism box block bowl plate cup star cone ring disk pyramid sphere cross triangle
square circle hexagon heart arrow brick can mug jar bottle tray basket lid spoon fork knife towel
cloth drawer door button handle carrot apple banana lemon eggplant pot pan sponge book pen marker
toy object objects thing things shape shapes block blocks cubes balls gripper table robot arm hand
camera image picture scene
"""
VERBS = """
touch push pick put place lift move reach grab grasp take turn rotate slide stack open close pull
drop press knock hold carry bring point go come stop tap poke cover stand lay flip pour wipe sweep
fold sort swap find look see show name say tell describe count give keep make let is are was be has
have can do does should will would
"""
PLACES = """
left right front back forward backward near far next over under above below top bottom side edge
middle center centre corner behind between beside away from into onto off in out at of on up down to
toward towards around inside outside against along across through with without by for as closest
nearest farthest leftmost rightmost highest lowest here there
"""
WORDS = """
a an the and or not no yes none nothing it its this that these those you your me my please now then
first second third last same different other another both all any each every some one two three four
five six seven eight nine ten zero half full empty large big small little tall short long wide round
flat high low held holding closed what where which who how many much why when colour color colours
colors colored coloured action In Out What Where Which How Is Are Yes No True False USER ASSISTANT
"""
BARE = ("Out", "In")
"""Words that also follow a line break, where no white space stands before them."""
PUNCTUATION = "?.,:;!'\"-()/<>[]|_"


def words() -> list[str]:
    """Return every word as it stands in a sentence, then the bare ones."""
    listed = " ".join((COLOURS, OBJECTS, VERBS, PLACES, WORDS, " ".join(string.ascii_uppercase))).split()
    return [*dict.fromkeys(SPACE + word for word in listed), *BARE]


def merges(texts: list[str]) -> list[tuple[str, str]]:
    """Learn merges until every word is one piece."""
    learner = Tokenizer(BPE())
    learner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=10_000, min_frequency=0, show_progress=False)
    )
    unmerged = [text for text in texts if len(learner.encode(text).ids) > 1]
    if unmerged:
        raise SystemExit(f"not one piece: {', '.join(unmerged)}.")
    learned: list[list[str]] = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in learned]


def build() -> Tokenizer:
    """Return the tokenizer."""
    texts = words()
    learned = merges(texts)
    characters = sorted({character for text in texts for character in text} | set(string.ascii_letters))
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE]
    pieces += [*characters, *string.digits, *PUNCTUATION, *(left + right for left, right in learned)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    vocabulary |= {f"<action_{index:03d}>": len(vocabulary) + index for index in range(ACTION_IDS)}
    tokenizer = Tokenizer(BPE(vocabulary, learned, byte_fallback=True, fuse_unk=True, unk_token=SPECIALS[0]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def main() -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=build(),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    stored = json.loads(settings.read_text()) | {
        "tokenizer_class": "PreTrainedTokenizerFast"
    }  # known to every release
    settings.write_text(json.dumps(stored, indent=2) + "\n")


if __name__ == "__main__":
    main()
