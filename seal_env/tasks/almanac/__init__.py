"""The Almanac: generated articles and questions about invented things.

almanac = Almanac(AlmanacConfig(seed=0))
article = almanac.article("train", 0)
print(article.context, article.task.questions)
"""

from seal_env.tasks.almanac.almanac import FIRST_UNREAD, Almanac, AlmanacConfig, Article
from seal_env.tasks.almanac.export import to_dataset, to_squad, write_squad
from seal_env.tasks.almanac.facts import Fact, Kind, Relation, Value
from seal_env.tasks.almanac.kinds import ALL, KINDS
from seal_env.tasks.almanac.names import Names
from seal_env.tasks.almanac.validate import validate

__all__ = [
    "ALL",
    "FIRST_UNREAD",
    "KINDS",
    "Almanac",
    "AlmanacConfig",
    "Article",
    "Fact",
    "Kind",
    "Names",
    "Relation",
    "Value",
    "to_dataset",
    "to_squad",
    "validate",
    "write_squad",
]
