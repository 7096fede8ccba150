"""Token ids of prompts, as raw text or through a chat template, and removal of thoughts from a chat model's output.

All prompts of policies and students go through :func:`prompt_ids`:

- ``base``: the text, with the special tokens that the tokenizer prepends (a BOS) and without those that it appends (an EOS),
  after which a model would begin another text.
- ``instruct``: the text as the user's message, exactly the ids of ``tokenizer.apply_chat_template``. They begin with a BOS if
  the template writes one, whatever the tokenizer adds to a raw text.

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

_PLACEHOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"  # an answer that is easy to find in a rendered template

# The tags around the thoughts of published models, from their chat templates and model cards: Qwen3 and DeepSeek-R1 (think),
# Magistral, Seed-OSS, Cohere's Command A Reasoning, Sky-T1, and the names that prompts commonly use.
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
        template: ``base`` or ``instruct``.
        enable_thinking: passed to the chat template: whether a model that can think before it answers should.

    Raises:
        ValueError: ``template`` is neither, or the tokenizer has no chat template.
    """
    check_template(template)
    if template == "instruct":
        return list(Chat(tokenizer, enable_thinking).prompt(text))
    text = encodable(text)
    ids = _ids(tokenizer, text, special=False)
    # Prepended tokens are found by comparison. An empty text does not show on which side of it a token stands, so take another.
    with_special = _ids(tokenizer, text if ids else "a", special=True)
    inner = ids or _ids(tokenizer, "a", special=False)
    starts = range(len(with_special) - len(inner) + 1)
    prepended = next((i for i in starts if with_special[i : i + len(inner)] == inner), 0)
    return with_special[:prepended] + ids


@dataclass(frozen=True)
class Chat:
    """The chat template of a tokenizer: formats user messages for an instruct model.

    Attributes:
        tokenizer: it must have a chat template.
        enable_thinking: passed to the template: whether a model that can think before it answers should.

    Raises:
        ValueError: the tokenizer has no chat template.
    """

    tokenizer: PreTrainedTokenizerBase
    enable_thinking: bool = False

    def __post_init__(self) -> None:
        check_chat_template(self.tokenizer, "instruct")

    def prompt(self, message: str) -> tuple[int, ...]:
        """Token ids of a user's message, up to the beginning of the assistant's turn."""
        return tuple(self._render(message, tokenize=True))

    def around(self, message: str) -> tuple[str, str]:
        """The text that the template writes before and after the assistant's answer to ``message``."""
        return str(self._render(message, tokenize=False)), self._ending

    def answer(self, text: str) -> str:
        """The answer in the text generated after a prompt, without thoughts and surrounding white space."""
        return without_thoughts(self.opening + text).strip()

    @functools.cached_property
    def opening(self) -> str:
        """The opening tag of thoughts that the template ends with, for a model that always thinks first; empty for others."""
        match = _OPENING_AT_END.search(self.around("?")[0])
        return match[0] if match else ""

    def example(self, text: str, answer_from: int) -> TokenExample:
        """A rendered chat as a training example, with the loss on the text from character ``answer_from``.

        Its ids begin with those of the prompt, so that training and generation see the same prompt.
        """
        ids, prompt = (_ids(self.tokenizer, part, special=False) for part in (text, text[:answer_from]))
        return TokenExample(tuple(ids), common_prefix(ids, prompt))

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
    """``text`` with lone surrogates, which UTF-8 cannot encode, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common prefix of two sequences of token ids."""
    return next((i for i, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second)))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _after_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text that the chat template writes after the assistant's answer; empty if it does not render the answer."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PLACEHOLDER}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False))
    return text.rpartition(_PLACEHOLDER)[2] if _PLACEHOLDER in text else ""


# Base or instruct -------------------------------------------------------------------------------------------------------


def check_template(template: object) -> None:
    """Raise a ValueError unless ``template`` is one of :data:`Template`."""
    check_choice("template", template, get_args(Template))


def check_chat_template(tokenizer: PreTrainedTokenizerBase, template: Template, keyword: str = "template") -> None:
    """Raise a ValueError if ``template`` is ``instruct`` and the tokenizer has no chat template."""
    if template == "instruct" and not tokenizer.chat_template:
        raise ValueError(
            f"{keyword}='instruct' needs a tokenizer with a chat template, and that of {tokenizer.name_or_path!r} has none:"
            f" use {keyword}='base'"
        )


def resolve_template(
    choice: TemplateChoice, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, keywords: str = "template"
) -> Template:
    """``choice``, or for ``auto``: ``instruct`` if the chat template ends the assistant's turn with an end token of the model.

    A chat template alone is no evidence: base models such as Qwen2.5-7B have one and were not trained on it. If there is one,
    the choice is logged.

    Args:
        choice: as the user gave it.
        model: its generation config has end tokens.
        tokenizer: it has an end token and perhaps a chat template.
        keywords: the keywords that choose a template, for the log line.

    Raises:
        ValueError: ``choice`` is none of :data:`TemplateChoice`.
    """
    check_choice(keywords, choice, get_args(TemplateChoice))
    if choice != "auto":
        return choice
    if not tokenizer.chat_template:
        return "base"
    end = _end_of_turn(tokenizer)
    end_text, name = repr(tokenizer.decode([end])) if end is not None else "no token", tokenizer.name_or_path
    if end in end_token_ids(model, tokenizer):
        _log.info(
            "%s: %s='instruct', since the chat template ends the assistant's turn with %s, an end token of this model;"
            " 'base' prompts it with raw text",
            *(name, keywords, end_text),
        )
        return "instruct"
    _log.warning(
        "%s: %s='base' although there is a chat template, since that ends the assistant's turn with %s, which is no end token"
        " of this model: it does not seem to be tuned on the template; say 'instruct' if it is, or 'base' to silence this",
        *(name, keywords, end_text),
    )
    return "base"


def end_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a generated text: the tokenizer's end token and those of the generation config."""
    ids: set[int] = set()
    for value in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        ids.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(ids)


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first token, except blanks, that the chat template writes after an answer; None if there is none."""
    try:
        after = _after_answer(tokenizer)
    except Exception:  # a template is a program that may raise anything, and then cannot render a chat
        return None
    return next((i for i in _ids(tokenizer, after, special=False) if tokenizer.decode([i]).strip()), None)


# Thoughts ---------------------------------------------------------------------------------------------------------------


def without_thoughts(text: str, template: Template = "instruct") -> str:
    """``text`` without thoughts: blocks between tags such as ``<think>`` and ``</think>``.

    Blocks at the beginning of any text are removed; if the last of them is not closed, because the tokens ran out, nothing is
    left. A base model's text keeps tags elsewhere, since it may be about them. From an instruct model's text two more kinds are
    removed: blocks that begin a line, up to the end of the text if they are not closed; and everything before a closing tag at
    the beginning or end of a line without an opening tag, which the chat template has written. Linear in the length of the
    text.
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
    """The start of the white space that ends at ``position``."""
    while position and text[position - 1].isspace():
        position -= 1
    return position
