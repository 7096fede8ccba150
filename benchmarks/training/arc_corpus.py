"""The pretraining corpus and the tokenizer of `seal-nano-arc`: tasks of single rules, and self-edits of all qualities.

Document i is a function of the seed and i. There are two kinds:

- *task*: two to six pairs of one of mini-arc's rules, never of a composition; the loss is on outputs from the second pair on.
  Some are augmented as in an inner loop.
- *edit*: demonstrations, the instruction of a self-edit, and a self-edit: every switch and number is drawn independently, and
  some edits are malformed. The untrained policy then writes varied edits without any bias to those that work.
"""

from __future__ import annotations

import random

from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from benchmarks.measurements.shapes import byte_tokenizer
from benchmarks.training.nano_corpus import Document, Piece
from seal_env.edits import INSTRUCTION, STRATEGIES, SWITCHES, ToolEdit, tool_prompt
from seal_env.tasks.arc.augment import GROUPS, Pair, augmentations, random_colours
from seal_env.tasks.arc.grid_prompts import END, INPUT, OUTPUT, ArcPrompts
from seal_env.tasks.arc.grids import LABELS
from seal_env.tasks.arc.mini import draw_pairs
from seal_env.tasks.arc.rules import KNOWN, draw_rule

PROMPTS = ArcPrompts("labelled")
AUGMENTED = 0.12  # share of tasks that are augmented
EDITS = 0.04
MALFORMED = 0.05  # share of edits
# Learning rates and epochs of edits: a wide range in the first EARLY documents, then the range of the untrained policy.
EARLY = 88_548
EARLY_RATES, RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EARLY_EPOCHS, EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10), (1, 2, 3, 4, 6, 8, 10)


def document(seed: int, index: int) -> Document:
    """Document ``index`` of the corpus."""
    rng = random.Random(f"arc/{seed}/{index}")
    pairs = _pairs(rng)
    if rng.random() < EDITS:
        return [Piece(tool_prompt(pairs[:3], "labelled"), False), Piece(_edit(rng, early=index < EARLY), True)]
    pieces = []
    for i, pair in enumerate(pairs):
        text, output = PROMPTS.example((), pair)
        pieces += [Piece(text[:output], False), Piece(text[output:], i > 0)]
    return pieces


def _pairs(rng: random.Random) -> list[Pair]:
    augmented = rng.random() < AUGMENTED
    count = rng.randint(2, 4 if augmented else 6)
    while True:
        pairs = draw_pairs(rng, (draw_rule(rng, rng.choice(KNOWN)),), count, 3, 3)
        if pairs is None:
            continue
        if not augmented:
            return pairs
        augmentation = rng.choice(augmentations(rng.choice(list(GROUPS)), pairs, rng))
        return list(augmentation.then(random_colours(rng)).pairs(pairs))


def _edit(rng: random.Random, early: bool) -> str:
    basic, size, chain, repeat = (rng.random() < 0.5 for _ in SWITCHES)
    strategy, rate = rng.choice(STRATEGIES), rng.choice(EARLY_RATES if early else RATES)
    text = ToolEdit(basic, size, chain, repeat, strategy, rate, rng.choice(EARLY_EPOCHS if early else EPOCHS)).text()
    if rng.random() < MALFORMED:
        return rng.choice(
            (text[:-1], text.replace("num_train_epochs", "epochs"), text.replace("true", "yes"), text[: len(text) // 2])
        )
    return text


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each colour and each fixed phrase, bytes for other text; ``<s>`` (0) begins a text, ``</s>`` (1) ends it."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    first, *others = SWITCHES
    phrases = [INPUT + LABELS[0], OUTPUT + LABELS[0], END, *(f"\n{label}" for label in LABELS[1:]), INSTRUCTION]
    # The constant parts of a self-edit.
    phrases += [f'{{"data_generation": {{"{first}": ', *(f', "{name}": ' for name in others), '}, "training": {"strategy": "']
    phrases += [*STRATEGIES, '", "learning_rate": ', ', "num_train_epochs": ', "}}", "true", "false"]
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
    return tokenizer
