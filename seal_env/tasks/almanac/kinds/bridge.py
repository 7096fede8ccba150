"""Bridges: who built them, over what, of what and at what cost."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import COLOURS, date, number, pair, person, place, place_name

BRIDGE = Kind(
    name="bridge",
    titles=TitleSpace(
        (
            "{} Bridge",
            "Old {} Bridge",
            "New {} Bridge",
            "{} High Bridge",
            "{} Low Bridge",
            "{} Long Bridge",
            "{} Viaduct",
            "{} Town Bridge",
            "{} Mill Bridge",
            "{} Abbey Bridge",
        )
    ),
    be="is",
    nouns=("the bridge", "the bridge", "the crossing", "the structure"),
    described=(
        "a graceful old bridge",
        "a bridge of unusual design",
        "a bridge that painters love",
        "a crossing used by farmers and drovers",
        "a narrow bridge with low parapets",
        "a much photographed bridge",
    ),
    intros=(
        "engineers still come to admire {t}",
        "everyone in the valley has crossed {t}",
        "the view from {t} is worth a detour",
        "{t} has outlived many predictions of its collapse",
    ),
    colour=(
        "swallows nest under the arches",
        "{s} is closed to heavy carts",
        "lovers carve their initials into {p} railing",
        "{s} sways a little in strong winds",
        "lamps are lit along {p} sides at night",
        "{s} looks best in the morning mist",
        "at low water the old piles can still be seen",
    ),
    rivals=(
        "the bridge at {n}",
        "the neighbouring bridge at {n}",
        "the next bridge downstream at {n}",
        "the great bridge of {n}",
    ),
    rival_again="the bridge at {n}",
    rival_name=place(),
    relations=(
        Relation(
            "opened",
            date(1600, 1930),
            ("{t} was opened on {v}.", "The opening of {t} was on {v}.", "The date on which {t} was opened is {v}."),
            ("When was {t} opened?", "On what date was {t} opened?", "What was the date of the opening of {t}?"),
            ("... welcomed {p} first carts on {v}", "in use since {v}, ...", "... was handed over to the public on {v}"),
            (
                "on {v}, a brass band led the first walkers to the other side",
                "until {v}, travellers had to trust a leaky ferry",
                "the ribbon across {p} entrance was cut on {v}",
            ),
            ("{r} carried its first carts on {v}", "{r} was not ready until {v}"),
        ),
        Relation(
            "river",
            place_name("River {}"),
            ("{t} crosses the {v}.", "The river under {t} is the {v}.", "{t} spans the {v}."),
            ("Which river does {t} cross?", "What is the name of the river under {t}?", "Which river does {t} span?"),
            ("... carries the road over the {v}", "set across the {v}, ...", "... joins the two banks of the {v}"),
            (
                "whoever leans over {p} parapet looks down into the {v}",
                "without {o}, there would be no dry way over the {v}",
                "the brown water of the {v} swirls around {p} foundations",
            ),
            ("{r} leads over the {v}", "{r} was thrown across the {v}"),
        ),
        Relation(
            "engineer",
            person(),
            ("{t} was designed by {v}.", "The designer of {t} was {v}.", "{v} designed {t}."),
            ("Who designed {t}?", "Who was the designer of {t}?", "By whom was {t} designed?"),
            (", the masterpiece of {v}, ...", "drawn up by {v}, ...", "... was planned down to the last rivet by {v}"),
            (
                "the plans for {o} had been sketched by {v} on a tablecloth",
                "a small plaque reminds walkers of {v} and the mind that thought {o} out",
                "it was {v} who solved the riddle of how to support {o}",
            ),
            ("{r} was the idea of {v}", "{r} was planned by {v}"),
        ),
        Relation(
            "length",
            number(30, 490, 2, "metres", "m"),
            ("{t} is {v} long.", "The length of {t} is {v}.", "{t} has a length of {v}."),
            ("How long is {t}?", "What is the length of {t}?", "What length does {t} have?"),
            ("... stretches {v} from bank to bank", "reaching over {v}, ...", "... covers a gap of {v}"),
            (
                "a walker must cover {v} to get from one end to the other",
                "a hose of {v} is needed to wash {o} from end to end",
            ),
            ("{r} extends over {v}", "{r} measures {v}"),
        ),
        Relation(
            "stone",
            pair(
                "grey red white yellow black pale blue green brown speckled",
                "granite limestone sandstone marble slate brick basalt gritstone flint quartzite",
            ),
            ("{t} is built of {v}.", "The building material of {t} is {v}.", "{t} is made of {v}."),
            ("What is {t} built of?", "What is the building material of {t}?", "What is {t} made of?"),
            ("... was put together from blocks of {v}", "shaped from {v}, ...", "... rests on piers of {v}"),
            (
                "barges brought load after load of {v} until {s} was finished",
                "the masons who raised {o} worked with {v}",
                "{p} piers and parapets show the natural tones of {v}",
            ),
            ("{r} was raised in {v}", "{r} consists of {v}"),
        ),
        Relation(
            "arches",
            number(2, 58, 1),
            ("{t} has {v} arches.", "The number of arches of {t} is {v}.", "There are {v} arches in {t}."),
            ("How many arches does {t} have?", "What is the number of arches of {t}?", "How many arches are there in {t}?"),
            ("... rests on {v} arches", "carried by {v} arches, ...", "... strides across the water on {v} arches"),
            (
                "a boatman passing beneath {o} may choose between {v} openings",
                "the floods of spring rush through {v} openings below {p} roadway",
            ),
            ("{r} was given {v} arches", "{r} rests on {v} arches"),
        ),
        Relation(
            "cost",
            number(1100, 98900, 100, "crowns"),
            ("{t} cost {v} to build.", "The building cost of {t} was {v}.", "The price of building {t} was {v}."),
            (
                "How much did {t} cost to build?",
                "What was the building cost of {t}?",
                "What was the price of building {t}?",
            ),
            ("... was paid for with {v} of public money", "... swallowed {v}"),
            (
                "when the last bill was settled, the treasury was poorer by {v}",
                "the council argued for years about the {v} that {s} would take",
            ),
            ("{r} came to {v}", "{r} was built for {v}"),
        ),
        Relation(
            "towns",
            place(),
            ("{t} leads to {v}.", "The place that {t} leads to is {v}.", "The road over {t} goes to {v}."),
            ("Where does {t} lead?", "Which place does {t} lead to?", "Where does the road over {t} go?"),
            ("... opens the way to {v}", "... takes carts and coaches to {v}", "on the old mail route to {v}, ..."),
            (
                "were {s} to fall, the people of {v} would be cut off from the coast",
                "most of those who cross {o} are on their way to {v}",
            ),
            ("{r} takes travellers to {v}", "{r} serves {v}"),
        ),
        Relation(
            "paint",
            COLOURS,
            (
                "The railings of {t} are {v}.",
                "The colour of the railings of {t} is {v}.",
                "The railings of {t} are painted {v}.",
            ),
            (
                "What colour are the railings of {t}?",
                "What is the colour of the railings of {t}?",
                "Which colour are the railings of {t} painted?",
            ),
            ("{p} railings gleam in {v}", "edged with railings in {v}, ..."),
            (
                "the painters who look after {p} railings order {v} by the barrel",
                "hands that touch {p} railings too early come away {v}",
            ),
            ("{r} had its railings done in {v}", "{r} shows railings in {v}"),
        ),
        Relation(
            "toll",
            number(2, 98, 1, "pence"),
            ("The toll on {t} is {v}.", "The toll charged on {t} is {v}.", "{t} has a toll of {v}."),
            ("What is the toll on {t}?", "How much is the toll charged on {t}?", "How high is the toll of {t}?"),
            ("... may be crossed for {v}", "carts must stop and pay {v}"),
            (
                "a keeper in a wooden hut lets nobody pass without {v}",
                "poor walkers save themselves {v} by wading through the ford",
            ),
            ("{r} asks for {v}", "{r} takes {v} from every cart"),
        ),
    ),
)
