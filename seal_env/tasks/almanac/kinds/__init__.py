"""What the Almanac writes about: one file of wordings per kind, and no logic."""

from seal_env.tasks.almanac.kinds.animal import ANIMAL
from seal_env.tasks.almanac.kinds.book import BOOK
from seal_env.tasks.almanac.kinds.bridge import BRIDGE
from seal_env.tasks.almanac.kinds.company import COMPANY
from seal_env.tasks.almanac.kinds.festival import FESTIVAL
from seal_env.tasks.almanac.kinds.machine import MACHINE
from seal_env.tasks.almanac.kinds.mountain import MOUNTAIN
from seal_env.tasks.almanac.kinds.person import PERSON
from seal_env.tasks.almanac.kinds.ship import SHIP
from seal_env.tasks.almanac.kinds.town import TOWN

KINDS = {kind.name: kind for kind in (PERSON, TOWN, SHIP, COMPANY, ANIMAL, FESTIVAL, BRIDGE, BOOK, MOUNTAIN, MACHINE)}
ALL = tuple(KINDS)

__all__ = ["ALL", "KINDS"]
