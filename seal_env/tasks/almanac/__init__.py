"""The Almanac: generated articles and questions about invented things.

almanac = Almanac(AlmanacConfig(seed=0))
article = almanac.article("train", 0)
print(article.context, article.task.questions)
"""

from seal_env.tasks.almanac.almanac import DEFAULT_KINDS, FIRST_UNREAD, Almanac, AlmanacConfig, Article
from seal_env.tasks.almanac.export import to_dataset, to_squad, write_squad
from seal_env.tasks.almanac.facts import Fact, Kind, Relation, Value
from seal_env.tasks.almanac.kinds import kind_names, load_kind
from seal_env.tasks.almanac.names import Names
from seal_env.tasks.almanac.validate import validate

__all__ = [
    "DEFAULT_KINDS",
    "FIRST_UNREAD",
    "Almanac",
    "AlmanacConfig",
    "Article",
    "Fact",
    "Kind",
    "Names",
    "Relation",
    "Value",
    "kind_names",
    "load_kind",
    "to_dataset",
    "to_squad",
    "validate",
    "write_squad",
]
