"""How a prompt becomes token ids, as raw text or through a chat template, and what of a chat model's output is thoughts.

Policies and students, questions and requests for self-edits all go through :func:`prompt_ids`:

- ``base``: the text as it is, with the special tokens that the tokenizer puts in front of a text (a BOS) and without those
  that it appends (an EOS), after which a model would begin another text.
- ``instruct``: the text as the user's message, exactly the ids of ``tokenizer.apply_chat_template``. A BOS is there if the
  template writes one, whatever the tokenizer adds to a raw text.

Nothing here needs torch or transformers.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from seal_env.checks import check_choice
from seal_env.update import TokenExample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Template = Literal["base", "instruct"]
TemplateChoice = Literal["auto", "base", "instruct"]
Prompt = str | tuple[int, ...]  # raw text for a base model, or token ids

_log = logging.getLogger(__name__)

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for an answer where a template is looked at

# The tags between which published models think, by their chat templates and model cards: Qwen3 and DeepSeek-R1 (think),
# Magistral, Seed-OSS, Cohere's Command A Reasoning, Sky-T1, and the names that prompts ask for.
_TAGS = (
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning", "seed:think")),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_TAG = re.compile("|".join(re.escape(tag) for pair in _TAGS for tag in pair), re.IGNORECASE)
_OPENING_AT_END = re.compile(f"(?:{'|'.join(re.escape(opening) for opening, _ in _TAGS)})\\s*\\Z", re.IGNORECASE)
_BLANK = re.compile(r"\s*")
_CLOSING = {opening.lower(): closing.lower() for opening, closing in _TAGS}


# From text to token ids -------------------------------------------------------------------------------------------------


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str, template: Template, enable_thinking: bool = False) -> list[int]:
    """Token ids of a prompt; see the module's docstring.

    Args:
        tokenizer: of the model that reads the prompt.
        text: the prompt of a base model, or the user's message to an instruct model.
        template: which of the two.
        enable_thinking: passed to the chat template: whether a model that can think before it answers is invited to.

    Raises:
        ValueError: ``template`` is neither, or the tokenizer has no chat template.
    """
    check_template(template)
    if template == "instruct":
        return list(Chat(tokenizer, enable_thinking).prompt(text))
    text = encodable(text)
    ids = _ids(tokenizer, text, special=False)
    # What is in front of a text is seen by comparison; an empty text would not say on which side of it a token stands.
    around = _ids(tokenizer, text if ids else "a", special=True)
    inner = ids or _ids(tokenizer, "a", special=False)
    starts = range(len(around) - len(inner) + 1)
    before = next((i for i in starts if around[i : i + len(inner)] == inner), 0)
    return around[:before] + ids


@dataclass(frozen=True)
class Chat:
    """The chat template of a tokenizer: how a user's message is put to an instruct model.

    Attributes:
        tokenizer: it must have a chat template.
        enable_thinking: passed to the template: whether a model that can think before it answers is invited to.

    Raises:
        ValueError: the tokenizer has no chat template.
    """

    tokenizer: PreTrainedTokenizerBase
    enable_thinking: bool = False

    def __post_init__(self) -> None:
        check_chat_template(self.tokenizer, "instruct")

    def prompt(self, message: str) -> tuple[int, ...]:
        """Token ids up to where the assistant's turn begins."""
        return tuple(self._render(message, tokenize=True))

    def around(self, message: str) -> tuple[str, str]:
        """What the template writes before the assistant's answer to ``message``, and after it."""
        return str(self._render(message, tokenize=False)), self._ending

    def answer(self, text: str) -> str:
        """The answer in what the model wrote after a prompt: without thoughts and without white space around it."""
        return without_thoughts(self.opening + text).strip()

    @functools.cached_property
    def opening(self) -> str:
        """The tag that the template leaves open where the assistant's turn begins, of a model that always thinks first."""
        found = _OPENING_AT_END.search(self.around("?")[0])
        return found[0] if found else ""

    def example(self, text: str, answer_from: int) -> TokenExample:
        """A whole chat as a training example, with the loss on what follows character ``answer_from``.

        Its ids begin with those of the prompt, so that an answer is learnt as it will be asked for.
        """
        ids, read = (_ids(self.tokenizer, part, special=False) for part in (text, text[:answer_from]))
        return TokenExample(tuple(ids), common_prefix(ids, read))

    def _render(self, message: str, tokenize: bool) -> Any:
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": encodable(message)}],
            add_generation_prompt=True,
            tokenize=tokenize,
            return_dict=False,
            enable_thinking=self.enable_thinking,
        )

    @functools.cached_property
    def _ending(self) -> str:
        return _after_answer(self.tokenizer)


def encodable(text: str) -> str:
    """Text that every tokenizer takes: lone surrogates, which UTF-8 cannot hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many token ids two sequences begin with alike."""
    return next((i for i, (one, other) in enumerate(zip(first, second)) if one != other), min(len(first), len(second)))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _after_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes after the assistant's answer; empty where it does not show the answer."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False))
    return text.rpartition(_MARK)[2] if _MARK in text else ""


# Base or instruct -------------------------------------------------------------------------------------------------------


def check_template(template: object) -> None:
    """Raise a ValueError unless ``template`` is one of :data:`Template`."""
    check_choice("template", template, get_args(Template))


def check_chat_template(tokenizer: PreTrainedTokenizerBase, template: Template, keyword: str = "template") -> None:
    """Raise a ValueError where ``template`` is ``instruct`` and the tokenizer has no chat template."""
    if template == "instruct" and not tokenizer.chat_template:
        raise ValueError(
            f"{keyword}='instruct' needs a tokenizer with a chat template, and that of {tokenizer.name_or_path!r} has none:"
            f" use {keyword}='base'"
        )


def resolve_template(
    choice: TemplateChoice, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, keywords: str = "template"
) -> Template:
    """``choice``, or for ``auto`` what the model was made for: ``instruct`` if its end tokens end the assistant's turn.

    That a tokenizer has a chat template says little: base models such as Qwen2.5-7B have one and were not trained on it. Where
    there is one, a log line says what was chosen.

    Args:
        choice: as the user gave it.
        model: for the end tokens of its generation config.
        tokenizer: for its end token and its chat template.
        keywords: what the user sets to choose otherwise, for the log line.
    """
    check_choice(keywords, choice, get_args(TemplateChoice))
    if choice != "auto":
        return choice
    if not tokenizer.chat_template:
        return "base"
    end = _end_of_turn(tokenizer)
    shown, name = repr(tokenizer.decode([end])) if end is not None else "no token", tokenizer.name_or_path
    if end in end_token_ids(model, tokenizer):
        _log.info(
            "%s: %s='instruct', since the chat template ends the assistant's turn with %s, an end token of this model;"
            " 'base' prompts it with raw text",
            *(name, keywords, shown),
        )
        return "instruct"
    _log.warning(
        "%s: %s='base' although there is a chat template, since that ends the assistant's turn with %s, which is no end token"
        " of this model: it does not seem to be tuned on the template; say 'instruct' if it is, or 'base' to silence this",
        *(name, keywords, shown),
    )
    return "base"


def end_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end what the model writes: the tokenizer's, and those of the generation config."""
    found: set[int] = set()
    for value in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(found)


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first token, blanks aside, that the chat template writes after an answer; None where it writes none."""
    try:
        after = _after_answer(tokenizer)
    except Exception:  # a template is a program of somebody else's: whatever it raises, a chat cannot be made with it
        return None
    return next((i for i in _ids(tokenizer, after, special=False) if tokenizer.decode([i]).strip()), None)


# Thoughts ---------------------------------------------------------------------------------------------------------------


def without_thoughts(text: str, template: Template = "instruct") -> str:
    """``text`` without the blocks between tags such as ``<think>`` and ``</think>`` in which a model thought first.

    Of any text, the blocks that it opens with are removed; one that is not closed, since the tokens ran out, leaves nothing.
    Elsewhere a base model's text may speak of tags and keeps them. Of an instruct model's text two more kinds go: blocks that
    begin a line, with all that follows where they are not closed; and everything before a closing tag at the beginning or
    end of a line that no tag opened, since then the chat template did. Linear in the length of the text.
    """
    kept, start, closing, opened = list[str](), 0, "", False
    for tag in _TAG.finditer(text):
        spelling = tag[0].lower()
        if closing:
            if spelling == closing:
                start, closing = tag.end(), ""
        elif spelling in _CLOSING:
            leads = not kept and _blank_before(text, tag.start()) <= start
            if leads or (template == "instruct" and _begins_line(text, tag.start())):
                kept += [] if leads else [text[start : tag.start()]]
                closing, opened = _CLOSING[spelling], True
            elif template == "base":
                break
        elif template == "instruct" and not opened and (_begins_line(text, tag.start()) or _ends_line(text, tag.end())):
            start, opened = tag.end(), True
    return "".join(kept) if closing else "".join(kept) + text[start:]


def _begins_line(text: str, position: int) -> bool:
    before = _blank_before(text, position)
    return before == 0 or "\n" in text[before:position]


def _ends_line(text: str, position: int) -> bool:
    blank = _BLANK.match(text, position)
    return blank is not None and (blank.end() == len(text) or "\n" in blank[0])


def _blank_before(text: str, position: int) -> int:
    """Where the white space that ends at ``position`` begins."""
    while position and text[position - 1].isspace():
        position -= 1
    return position
