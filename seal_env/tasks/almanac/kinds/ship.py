"""Ships of the sailing age, told of in the past tense."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import date, number, person, place, place_name, word, year

ship_names = place_name("Lady {}", "Lord {}", "Star of {}", "Spirit of {}", "Pride of {}")

SHIP = Kind(
    name="ship",
    titles=TitleSpace(
        (
            "Maid of {}",
            "Star of {}",
            "Spirit of {}",
            "Pride of {}",
            "Lady of {}",
            "Queen of {}",
            "Bells of {}",
            "Rose of {}",
            "Heart of {}",
            "Duke of {}",
            "Swan of {}",
            "Dawn of {}",
        ),
        the=True,
    ),
    be="was",
    nouns=("the ship", "the vessel", "the ship"),
    described=(
        "a sailing ship of the northern trade",
        "a merchant ship with three masts",
        "a slow but sturdy ship",
        "a handsome ship of the old kind",
        "a coasting ship built for rough weather",
        "a ship that sailors spoke of with respect",
    ),
    intros=(
        "sailors still tell stories about {t}",
        "few ships were as well liked as {t}",
        "{t} is the subject of more than one song",
        "{t} lived through an eventful century",
    ),
    colour=(
        "{s} was never a fast sailer",
        "{p} sails were patched many times",
        "the crew thought {o} lucky",
        "the deck was scrubbed every morning",
        "{s} rolled badly in a heavy sea",
        "no painting of {o} is known",
        "{p} bell could be heard far across the water",
    ),
    rivals=(
        "a sister ship, the {n},",
        "the well-known {n}",
        "another ship, the {n},",
        "the rival ship {n}",
        "the {n}, owned by the same family,",
    ),
    rival_again="the {n}",
    rival_name=ship_names,
    gaps=(("launched", "lost", 3, 70),),
    relations=(
        Relation(
            "launched",
            year(1600, 1880),
            ("{t} was launched in {v}.", "The launch of {t} was in {v}.", "{t} was launched in the year {v}."),
            ("When was {t} launched?", "In what year was {t} launched?", "What year was {t} launched in?"),
            ("... first floated in {v}", "sent down the slipway in {v}, ...", "... took to the water in {v}"),
            (
                "salt water first touched {p} keel in {v}",
                "the bottle broken on {p} bow in {v} held apple juice instead of wine",
                "... had stood on dry land until {v}",
            ),
            ("{r} went into the water in {v}", "{r} was afloat by {v}"),
        ),
        Relation(
            "builder",
            person(),
            ("{t} was built by {v}.", "The builder of {t} was {v}.", "{v} built {t}."),
            ("Who built {t}?", "Who was the builder of {t}?", "By whom was {t} built?"),
            (", the work of {v}, ...", "drawn on paper and made in timber by {v}, ...", "... left the yard of {v}"),
            (
                "every plank in {p} hull had passed through the hands of {v}",
                "... was the last vessel that {v} finished before retiring",
                "the shipwright who shaped {p} bow was {v}",
            ),
            ("{r} came from the hands of {v}", "{r} was shaped by {v}"),
        ),
        Relation(
            "port",
            place(),
            ("The home port of {t} was {v}.", "{t} had its home port in {v}.", "{v} was the home port of {t}."),
            ("What was the home port of {t}?", "In which place was the home port of {t}?", "Where was the home port of {t}?"),
            ("... belonged to the fleet of {v}", "... carried the name of {v} on {p} stern", "registered at {v}, ..."),
            (
                "after each voyage, {s} returned to the same quay in {v}",
                "in winter, {s} lay idle among the fishing boats of {v}",
                "wives in {v} knew the sight of {p} sails",
            ),
            ("{r} was based at {v}", "{r} came home to {v}"),
        ),
        Relation(
            "captain",
            person(),
            ("The captain of {t} was {v}.", "{v} was the captain of {t}.", "{t} had {v} as captain."),
            ("Who was the captain of {t}?", "What was the name of the captain of {t}?", "Whom did {t} have as captain?"),
            ("... sailed under {v}", "commanded by {v}, ...", "... obeyed the orders of {v}"),
            (
                "the sailor at {p} wheel had to answer to {v}",
                "the best cabin on board was reserved for {v}",
                "it was {v} who kept {p} log",
            ),
            ("{r} had {v} in command", "{r} was in the charge of {v}"),
        ),
        Relation(
            "cargo",
            word(
                "salt, timber, wool, coffee, tea, sugar, copper ore, coal, marble, wine, olive oil, rice, tobacco, cotton, "
                "silk, pepper, cinnamon, indigo, tar, hemp, barley, wheat, dried fish, whale oil, iron bars, slate, "
                "granite, cork, oranges, raisins, almonds, furs, hides, rum, brandy, porcelain, rubber, ivory, hay, ice, "
                "bricks, nutmeg, ginger, mahogany, lead, tin, potash, sponges"
            ),
            ("{t} carried {v}.", "The cargo of {t} was {v}.", "{t} carried a cargo of {v}."),
            ("What did {t} carry?", "What was the cargo of {t}?", "What cargo did {t} carry?"),
            ("... was loaded with {v} on most trips", "laden with {v}, ...", "... brought {v} to market"),
            (
                "{p} hold always smelt faintly of {v}",
                "merchants trusted {o} with {v} and with nothing else",
                "dockers knew from the weight of the crates that {s} was bringing {v}",
            ),
            ("{r} was busy with {v}", "{r} mostly carried {v}"),
        ),
        Relation(
            "crew",
            number(12, 198, 1),
            ("{t} had a crew of {v}.", "The crew of {t} numbered {v}.", "The size of the crew of {t} was {v}."),
            (
                "How many people were in the crew of {t}?",
                "How large was the crew of {t}?",
                "What was the size of the crew of {t}?",
            ),
            ("... needed {v} hands", "worked by {v} sailors, ...", "... put to sea with {v} men on board"),
            (
                "below the main hatch hung {v} hammocks",
                "the cook had {v} mouths to feed",
                "when the whistle blew, {v} sailors came running",
            ),
            ("{r} made do with {v} hands", "{r} was worked by {v} men"),
        ),
        Relation(
            "length",
            number(18, 99, 1, "metres", "m"),
            ("{t} was {v} long.", "The length of {t} was {v}.", "{t} had a length of {v}."),
            ("How long was {t}?", "What was the length of {t}?", "What length did {t} have?"),
            ("... measured {v} from bow to stern", "at {v} from end to end, ...", "... stretched to {v}"),
            (
                "a walk from {p} bow to {p} stern was one of {v}",
                "... took up {v} of any quay",
                "a rope of {v} would just reach from {p} bow to {p} stern",
            ),
            ("{r} measured {v}", "{r} came to {v} in all"),
        ),
        Relation(
            "price",
            number(1050, 48950, 50, "crowns"),
            ("{t} cost {v}.", "The price of {t} was {v}.", "{t} cost its owners {v}."),
            ("How much did {t} cost?", "What was the price of {t}?", "How much did {t} cost its owners?"),
            ("... was paid for with {v}", "bought for {v}, ...", "... changed hands for {v}"),
            (
                "the owners parted with {v} before {s} was theirs",
                "the bill for {o} came to {v}",
                "... swallowed {v} of borrowed money",
            ),
            ("{r} was bought for {v}", "{r} was sold at {v}"),
        ),
        Relation(
            "figurehead",
            word(
                "a mermaid, a lion, a swan, a griffin, an eagle, a stag, a unicorn, a dolphin, a dragon, a falcon, a bear, "
                "a wolf, a horse, a bull, a heron, a peacock, a seal, a raven, a pelican, a rooster, a hare, a fox, an owl, "
                "a goat, a bishop, a shepherd, a queen, a piper, a drummer, a knight, a giant, a nymph, an archer, a monk, "
                "a jester, a milkmaid, a harvester, a swordfish, an otter, a camel, a leopard, a serpent, a crane, a badger"
            ),
            (
                "The figurehead of {t} was {v}.",
                "{t} had {v} as its figurehead.",
                "The figurehead of {t} showed {v}.",
            ),
            ("What was the figurehead of {t}?", "What did {t} have as its figurehead?", "What did the figurehead of {t} show?"),
            ("the carving under {p} bowsprit was {v}", "... wore {v} at the bow"),
            (
                "in every wave, {v} of painted wood bowed to the sea ahead of {o}",
                "children on the quay waved at {v} carved beneath {p} bowsprit",
            ),
            ("{r} had {v} at the bow", "{r} was adorned with {v}"),
        ),
        Relation(
            "lost",
            date(1640, 1940),
            ("{t} sank on {v}.", "The sinking of {t} was on {v}.", "The date on which {t} sank was {v}."),
            ("When did {t} sink?", "On what date did {t} sink?", "What was the date of the sinking of {t}?"),
            ("... went down on {v}", "... met {p} end on {v}", "... was lost in a gale on {v}"),
            (
                "{p} last signal was seen on {v}",
                "the sea closed over {p} masts on {v}",
                "since {v}, {s} has lain on the sea bed",
            ),
            ("{r} foundered on {v}", "{r} was wrecked on {v}"),
            closing=True,
        ),
    ),
)
