"""Towns: their charter, river, trade, market and people."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import FOODS, day, number, person, place, place_name, word, year

TOWN = Kind(
    name="town",
    titles=TitleSpace(
        (
            "Port {}",
            "Upper {}",
            "Lower {}",
            "Great {}",
            "Little {}",
            "Old {}",
            "{} Cross",
            "{} Green",
            "{} Heath",
            "{} Magna",
            "{} Regis",
            "{} End",
        )
    ),
    be="is",
    nouns=("the town", "the town", "the place", "{t}"),
    described=(
        "a small town of crooked streets",
        "a quiet town with a long memory",
        "a town of red roofs and narrow lanes",
        "a busy little town",
        "a market town on the edge of the plain",
        "a sleepy town between two hills",
    ),
    intros=(
        "travellers seldom plan to stop at {t}",
        "there is more to {t} than meets the eye",
        "{t} is easily missed on a map",
        "the guidebooks say little about {t}",
    ),
    colour=(
        "{p} streets are quiet after dark",
        "storks nest on several of the chimneys",
        "the shops close early",
        "{p} older houses lean against each other",
        "visitors are rare in winter",
        "most of {p} lanes are too narrow for carts",
        "the view from the church tower is well worth the climb",
    ),
    rivals=("the neighbouring town of {n}", "nearby {n}", "the rival town of {n}", "{n}, a day's walk away,"),
    rival_again="{n}",
    rival_name=place(),
    relations=(
        Relation(
            "chartered",
            year(1050, 1750),
            ("{t} was founded in {v}.", "The founding of {t} was in {v}.", "{t} was founded in the year {v}."),
            ("When was {t} founded?", "In what year was {t} founded?", "What year was {t} founded in?"),
            ("... goes back to {v}", "laid out in {v}, ...", "... owes its first streets to the year {v}"),
            (
                "until {v}, there was nothing here but sheep",
                "the oldest stone in {p} wall bears the number {v}",
                "... could not be found on any map before {v}",
            ),
            ("{r} dates from {v}", "{r} had its beginnings in {v}"),
        ),
        Relation(
            "river",
            place_name("River {}"),
            ("{t} lies on the {v}.", "The river at {t} is the {v}.", "{t} stands on the {v}."),
            ("On which river does {t} lie?", "Which river is {t} on?", "What is the name of the river at {t}?"),
            ("... hugs the banks of the {v}", "spread along the {v}, ...", "... follows a bend of the {v}"),
            (
                "in spring, the {v} floods {p} cellars",
                "the water in {p} fountains is drawn from the {v}",
                "mist from the {v} fills {p} lanes on autumn mornings",
            ),
            ("{r} is washed by the {v}", "{r} gets its water from the {v}"),
        ),
        Relation(
            "founder",
            person(),
            ("{t} was founded by {v}.", "The founder of {t} was {v}.", "{v} founded {t}."),
            ("Who founded {t}?", "Who was the founder of {t}?", "By whom was {t} founded?"),
            ("... was the creation of {v}", "... grew around a farm built by {v}", "the brainchild of {v}, ..."),
            (
                "it was {v} who drove the first stake into the ground",
                "... would not exist had {v} not stopped here to water a horse",
                "the statue on the square shows {v} with a measuring chain in one hand",
            ),
            ("{r} was the work of {v}", "{r} looks back to {v}"),
        ),
        Relation(
            "people",
            number(1050, 29950, 50),
            ("{t} has {v} inhabitants.", "The population of {t} is {v}.", "{t} has a population of {v}."),
            ("How many inhabitants does {t} have?", "What is the population of {t}?", "How many people live in {t}?"),
            ("... is home to {v} souls", "with {v} people within its walls, ...", "... counts {v} residents"),
            (
                "at the last census, {v} names were taken down",
                "on feast days, all {v} townsfolk try to fit into one square",
                "if every resident lit a candle, there would be {v} flames",
            ),
            ("{r} is home to {v} people", "{r} has grown to {v} souls"),
        ),
        Relation(
            "product",
            word(
                "glass, paper, rope, candles, lace, felt, mustard, vinegar, clay pipes, church bells, needles, saddles, "
                "bricks, barrels, baskets, buttons, gloves, hats, knives, linen, blankets, ribbons, soap, ink, clocks, "
                "violins, flutes, spoons, umbrellas, wagons, nails, tiles, salt, honey, cider, perfume, pottery, carpets, "
                "scissors, boots, drums, mirrors, lanterns, fishing nets, toys, sails, whistles, combs"
            ),
            ("{t} is known for its {v}.", "The main product of {t} is {v}.", "The product that {t} is known for is {v}."),
            ("What is {t} known for?", "What is the main product of {t}?", "Which product is {t} known for?"),
            ("... lives by making {v}", "... built {p} wealth on {v}", "... ships {v} to all parts of the country"),
            (
                "nearly every workshop turns out {v}",
                "whoever buys {v} in the capital is likely to be buying {p} handiwork",
                "families have handed down the art of making {v} for centuries",
            ),
            ("{r} deals in {v}", "{r} depends on {v}"),
        ),
        Relation(
            "market",
            day(),
            (
                "The annual fair of {t} is on {v}.",
                "{t} holds its annual fair on {v}.",
                "The date of the annual fair of {t} is {v}.",
            ),
            (
                "On what date is the annual fair of {t}?",
                "When does {t} hold its annual fair?",
                "What is the date of the annual fair of {t}?",
            ),
            ("... fills with stalls every {v}", "the yearly market falls on {v}", "... puts up the tents each {v}"),
            (
                "only on {v} are the streets truly crowded",
                "farmers for miles around keep {v} free to come and trade here",
                "pedlars know to arrive by {v} each year",
            ),
            ("{r} keeps {v} for trading", "{r} has its market on {v}"),
        ),
        Relation(
            "height",
            number(12, 96, 1, "metres", "m"),
            (
                "The church tower of {t} is {v} tall.",
                "The height of the church tower of {t} is {v}.",
                "The church tower in {t} has a height of {v}.",
            ),
            (
                "How tall is the church tower of {t}?",
                "What is the height of the church tower of {t}?",
                "How high is the church tower in {t}?",
            ),
            ("{p} church tower rises {v} above the roofs", "the tower of {p} church reaches {v}"),
            (
                "whoever climbs {p} church tower stands {v} above the square",
                "a stone dropped from the top of the church tower falls {v}",
            ),
            ("{r} has a church tower of {v}", "{r} built its church tower up to {v}"),
        ),
        Relation(
            "road",
            place(),
            ("The main road from {t} leads to {v}.", "{t} is joined by road to {v}.", "The main road of {t} goes to {v}."),
            (
                "Where does the main road from {t} lead?",
                "Which place is {t} joined to by road?",
                "Where does the main road of {t} go?",
            ),
            ("the old highway runs from here to {v}", "... sends its coaches to {v}", "... begins the long highway to {v}"),
            (
                "anyone who follows the highway to its end will arrive in {v}",
                "wagons leaving by the east gate are bound for {v}",
                "the milestones on the square all point towards {v}",
            ),
            ("{r} is linked with {v}", "{r} can be reached from {v}"),
        ),
        Relation(
            "dish",
            word(FOODS),
            ("The local dish of {t} is {v}.", "{t} has {v} as its local dish.", "The dish that {t} is famous for is {v}."),
            ("What is the local dish of {t}?", "Which dish is {t} famous for?", "What dish is {t} famous for?"),
            ("every inn serves {v}", "... prides itself on {v}", "... feeds its guests on {v}"),
            (
                "no one may leave without having tasted {v}",
                "the smell of {v} drifts from every kitchen",
                "grandmothers still argue over the right way to prepare {v}",
            ),
            ("{r} would rather serve {v}", "{r} treats visitors to {v}"),
        ),
        Relation(
            "mayor",
            person(),
            ("The mayor of {t} is {v}.", "{v} is the mayor of {t}.", "The office of mayor of {t} is held by {v}."),
            ("Who is the mayor of {t}?", "What is the name of the mayor of {t}?", "Who holds the office of mayor of {t}?"),
            ("... is governed by {v}", "the town hall is in the hands of {v}", "led with a firm hand by {v}, ..."),
            (
                "the chain of office hangs around the neck of {v}",
                "complaints about the roads go straight to {v}",
                "... has elected {v} to speak for {o}",
            ),
            ("{r} voted for {v}", "{r} is led by {v}"),
        ),
    ),
)
