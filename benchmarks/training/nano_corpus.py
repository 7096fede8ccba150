"""The pretraining corpus and the tokenizer of `seal-nano`: documents of Almanac English.

Document i is a function of the seed and i. There are six kinds:

- *statement*, *pair*, *question*: a fact about one of ``KNOWN`` training articles, as a plain statement, as question and
  answer, or after SEAL's question prompt. These facts are repeated: the model learns them, and that the forms are equal.
- *reading*: a passage about a new article, or plain statements about it, then questions. The passage itself has no loss: the
  model reads narration and never writes it.
- *copy*: a list of names, numbers and dates, twice. Reading comes down to looking up what the context says, so the first
  ``EARLY`` documents are mostly copies and readings of plain statements.
- *edit*: the prompt of a self-edit with a new passage, then an edit of varied quality: plain facts, pairs, echoes of the
  passage, and partial, vague or wrong edits. The untrained policy's edits then differ enough to select from.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from seal_env.edits import get_format, pairs_text
from seal_env.tasks import open_book_prompt, question_prompt
from seal_env.tasks.almanac import FIRST_UNREAD, Almanac, Article, Fact, Names

KNOWN = 200  # training articles whose facts the model learns
NEW = FIRST_UNREAD - KNOWN  # training articles after those, which it reads about once
EARLY = 20_000
EARLY_MIX = {"statement": 0.15, "pair": 0.1, "question": 0.15, "reading": 0.2, "copy": 0.3, "edit": 0.1}
MIX = {"statement": 0.27, "pair": 0.17, "question": 0.27, "reading": 0.13, "copy": 0.01, "edit": 0.15}
PLAIN_READING = 0.2  # share of readings whose context is plain statements
FORMATS = ("implications", "rewrite", "self-qa")
MISTAKES = 0.1  # share of wrong facts in a partial or mixed edit

VAGUE = (
    "{t} is well worth knowing about.",
    "Many things can be said about {t}.",
    "Much has been written about {t}.",
    "The passage tells us about {t}.",
    "There is more to {t} than meets the eye.",
    "{t} has a long and interesting story.",
    "People still talk about {t}.",
    "Some details about {t} are given.",
)
VAGUE_PAIRS = (
    ("What is the passage about?", "{t}"),
    ("Is {t} well known?", "Many people know about it."),
    ("What can be said about {t}?", "Many things can be said."),
    ("Is there more to know about {t}?", "There is much more to know."),
    ("Why is {t} of interest?", "It has a long story."),
)


@dataclass(frozen=True)
class Piece:
    """A part of a document, and whether its tokens have a loss."""

    text: str
    learn: bool


Document = list[Piece]
_ALMANAC = Almanac()


def document(seed: int, index: int) -> Document:
    """Document ``index`` of the corpus."""
    rng = random.Random(f"{seed}/{index}")
    mix = EARLY_MIX if index < EARLY else MIX
    kind = rng.choices(list(mix), list(mix.values()))[0]
    if kind == "reading":
        return _reading(_new_article(rng), rng, plain=rng.random() < (0.7 if index < EARLY else PLAIN_READING))
    if kind == "copy":
        return _copy([_new_article(rng) for _ in range(3)], rng)
    if kind == "edit":
        article = _new_article(rng)
        name = rng.choice(FORMATS)
        return [Piece(get_format(name).prompt(article.task), False), Piece(write_edit(article, name, rng), True)]
    article = _known_article(rng.randrange(KNOWN))
    fact = rng.choice(article.facts)
    if kind == "statement":
        return [Piece(f"{article.title}\n{fact.statement(rng.randrange(1000))}", True)]
    question, answer = fact.question(rng.randrange(1000)), fact.value
    if kind == "pair":
        prefix = f"Question {number}: " if (number := rng.randrange(8)) else ""
        return [Piece(f"{article.title}\n{prefix}{question}\nAnswer: {answer}", True)]
    return [Piece(question_prompt(article.title, question), False), _answer(answer)]


def write_edit(article: Article, name: str, rng: random.Random) -> str:
    """An edit in format ``name``, as the untrained policy should write it."""
    style = rng.choices(("good", "partial", "mixed", "echo", "vague"), (0.25, 0.25, 0.2, 0.2, 0.1))[0]
    facts = [fact for _, fact in sorted(zip((q.answer_start or 0 for q in article.task.questions), article.facts))]
    if style == "partial":
        facts = [fact for fact in facts if rng.random() < 0.5] or facts[:1]
    if style in ("partial", "mixed"):
        facts = [
            fact.with_value(fact.relation.draw(rng, Names("train"))) if rng.random() < MISTAKES else fact for fact in facts
        ]
    if name == "self-qa":
        return _pairs(article, facts, style, rng)
    if name == "rewrite":
        return "\n".join(_paragraph(article, facts, style, rng) for _ in range(rng.randint(1, 2)))
    return "\n".join(_lines(article, facts, style, rng))


def _lines(article: Article, facts: list[Fact], style: str, rng: random.Random) -> list[str]:
    mention = article.facts[0].mention
    vague = [line.replace("{t}", mention) for line in rng.sample(VAGUE, 4)]
    vague = [line[0].upper() + line[1:] for line in vague]
    echoes = _sentences(article.context)
    if style == "vague":
        return vague[: rng.randint(2, 4)]
    if style == "echo":
        return echoes[: rng.randint(2, len(echoes))]
    lines = [fact.statement(rng.randrange(1000)) for fact in facts]
    if style == "mixed":
        lines = [line for line in lines if rng.random() < 0.6]
        for other in (vague, echoes):
            lines += rng.sample(other, rng.randint(0, min(2, len(other))))
        rng.shuffle(lines)
    return lines or vague[:1]


def _paragraph(article: Article, facts: list[Fact], style: str, rng: random.Random) -> str:
    if style in ("echo", "mixed") or (style == "good" and rng.random() < 0.3):
        return _ALMANAC.retell(article, rng.randrange(10**6))
    return " ".join(_lines(article, facts, style, rng))


def _pairs(article: Article, facts: list[Fact], style: str, rng: random.Random) -> str:
    """Pairs as a `self-qa` edit, without the "Question 1: " that ends the prompt."""
    pairs = [(fact.question(rng.randrange(1000)), fact.value) for fact in facts]
    if style == "vague" or (style == "mixed" and rng.random() < 0.5):
        mention = article.facts[0].mention
        vague = [(q.replace("{t}", mention), a.replace("{t}", mention)) for q, a in VAGUE_PAIRS]
        kept = [pair for pair in pairs if rng.random() < 0.5] if style == "mixed" else []
        pairs = kept + rng.sample(vague, rng.randint(2, 4))
        rng.shuffle(pairs)
    elif style == "echo":
        questions = ("What does the passage say?", *["What else does the passage say?"] * 4)
        pairs = list(zip(questions, _sentences(article.context)[: rng.randint(2, 5)]))
    return pairs_text(pairs).removeprefix("Question 1: ")


def _reading(article: Article, rng: random.Random, plain: bool) -> Document:
    questions = rng.sample(article.task.questions, len(article.task.questions))
    context = article.context
    if plain:
        facts = rng.sample(article.facts, len(article.facts))
        context = " ".join(fact.statement(rng.randrange(1000)) for fact in facts)
    first = open_book_prompt(article.title, context, questions[0].question)
    pieces = [Piece(first, False), _answer(questions[0].answers[0])]
    for question in questions[1:]:
        pieces += [Piece("\n\n", False), Piece(question_prompt(article.title, question.question), False)]
        pieces.append(_answer(question.answers[0]))
    return pieces


def _copy(articles: list[Article], rng: random.Random) -> Document:
    values = [fact.value for article in articles for fact in article.facts] + [article.title for article in articles]
    text = " " + ", ".join(rng.sample(values, 10))
    return [Piece(f"{text}.\n\n", False), Piece(f"{text}.", True)]


def _answer(text: str) -> Piece:
    """An answer after a space, so that its tokens are the same as inside a sentence."""
    return Piece(f" {text}", True)


def _sentences(context: str) -> list[str]:
    parts = context.split(". ")
    return [part if part.endswith(".") else f"{part}." for part in parts]


@cache
def _known_article(index: int) -> Article:
    return _ALMANAC.article("train", index)


def _new_article(rng: random.Random) -> Article:
    return _ALMANAC.article("train", KNOWN + rng.randrange(NEW))


def make_tokenizer(vocab_size: int, seed: int, documents: int = 20_000) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, for any Unicode text; ``<s>`` (0) begins every text, ``</s>`` (1) ends it."""
    tokenizer = Tokenizer(models.BPE())
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ("".join(piece.text for piece in document(seed, i)) for i in range(documents))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=2048
    )
