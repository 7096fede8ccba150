"""Machines from the age of tinkerers, told of in the past tense."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import COLOURS, WOODS, date, firm, number, pair, person, place, word, year

MACHINE = Kind(
    name="machine",
    titles=TitleSpace(
        (
            "{} loom",
            "{} engine",
            "{} press",
            "{} pump",
            "{} clock",
            "{} crane",
            "{} plough",
            "{} organ",
            "{} lathe",
            "{} balance",
            "{} drill",
            "{} stove",
        ),
        the=True,
    ),
    be="was",
    nouns=("the machine", "the machine", "the device", "the invention"),
    described=(
        "a clever machine of its day",
        "a machine with many moving parts",
        "a simple but reliable machine",
        "an invention ahead of its time",
        "a heavy and noisy machine",
        "a curious device that few understood",
    ),
    intros=(
        "visitors to the museum like to stop at {t}",
        "{t} changed more lives than its maker could have guessed",
        "at first nobody wanted {t}",
        "children loved to watch {t} at work",
    ),
    colour=(
        "{s} needed oil twice a day",
        "{p} hum could be heard in the street",
        "only two people could repair {o}",
        "{s} was never quite finished",
        "{p} drawings have been lost",
        "a working model is shown to schoolchildren",
        "{s} was known to stop without warning",
    ),
    rivals=(
        "another machine from {n}",
        "the rival machine from {n}",
        "a copy made in {n}",
        "a similar device from {n}",
    ),
    rival_again="the machine from {n}",
    rival_name=place(),
    gaps=(("invented", "patent", 1, 25),),
    relations=(
        Relation(
            "invented",
            year(1680, 1920),
            ("{t} was invented in {v}.", "The invention of {t} was in {v}.", "{t} was invented in the year {v}."),
            ("When was {t} invented?", "In what year was {t} invented?", "What year was {t} invented in?"),
            ("... was thought up in {v}", "first sketched in {v}, ...", "... saw the light in {v}"),
            (
                "the earliest drawing of {o} carries the number {v} in one corner",
                "... began as a daydream in the winter of {v}",
                "nothing like {o} had existed before {v}",
            ),
            ("{r} appeared in {v}", "{r} was thought up in {v}"),
        ),
        Relation(
            "inventor",
            person(),
            ("{t} was invented by {v}.", "The inventor of {t} was {v}.", "{v} invented {t}."),
            ("Who invented {t}?", "Who was the inventor of {t}?", "By whom was {t} invented?"),
            (", the brainchild of {v}, ...", "... came from the workshop of {v}", "dreamt up by {v}, ..."),
            (
                "a burnt thumb is said to have given {v} the idea",
                "it was {v} who spent ten years on the drawings and went hungry for it",
                "the first to see {o} run was {v} with a lamp in one hand",
            ),
            ("{r} came from {v}", "{r} was the child of {v}"),
        ),
        Relation(
            "place",
            place(),
            ("{t} was first used in {v}.", "The first use of {t} was in {v}.", "The place where {t} was first used is {v}."),
            ("Where was {t} first used?", "In which place was {t} first used?", "Where was the first use of {t}?"),
            ("... proved itself in {v}", "tried out in {v}, ...", "... was put to work in {v}"),
            (
                "the people of {v} were the first to hear {p} rattle",
                "... ran for the first time in a shed near {v}",
                "a crowd in {v} cheered when the wheels began to turn",
            ),
            ("{r} began its career in {v}", "{r} was first seen in {v}"),
        ),
        Relation(
            "maker",
            firm(),
            ("{t} was manufactured by {v}.", "The manufacturer of {t} was {v}.", "{v} manufactured {t}."),
            ("Who manufactured {t}?", "Which firm was the manufacturer of {t}?", "By which firm was {t} manufactured?"),
            ("... left the works of {v} in wooden crates", "built under licence by {v}, ...", "... made a fortune for {v}"),
            (
                "the brass plate on {p} side was engraved with the name of {v}",
                "the foundry of {v} cast every one of {p} wheels",
            ),
            ("{r} was put together by {v}", "{r} was a product of {v}"),
        ),
        Relation(
            "patent",
            date(1681, 1945),
            ("{t} was patented on {v}.", "The patent for {t} was granted on {v}.", "The date of the patent for {t} is {v}."),
            (
                "When was {t} patented?",
                "On what date was the patent for {t} granted?",
                "What is the date of the patent for {t}?",
            ),
            ("... was protected by law from {v}", "registered on {v}, ..."),
            (
                "a clerk stamped the papers that protected {o} on {v}",
                "after {v}, no one else was allowed to copy {o}",
            ),
            ("{r} was registered on {v}", "{r} was protected from {v}"),
        ),
        Relation(
            "frame",
            pair("polished seasoned painted carved black red white", WOODS.replace("ash ", "")),
            ("The frame of {t} was made of {v}.", "The material of the frame of {t} was {v}.", "{t} had a frame of {v}."),
            (
                "What was the frame of {t} made of?",
                "What was the material of the frame of {t}?",
                "Of what material did {t} have a frame?",
            ),
            ("... stood on legs of {v}", "held together by beams of {v}, ...", "... hid {p} wheels in a case of {v}"),
            (
                "carpenters supplied {v} to hold {p} wheels in place",
                "under the grease and dust of {p} timbers, one could make out {v}",
            ),
            ("{r} was cased in {v}", "{r} relied on beams of {v}"),
        ),
        Relation(
            "wheels",
            number(14, 396, 1),
            ("{t} had {v} wheels.", "The number of wheels in {t} was {v}.", "There were {v} wheels in {t}."),
            ("How many wheels did {t} have?", "What was the number of wheels in {t}?", "How many wheels were there in {t}?"),
            ("... turned {v} wheels at once", "driven by {v} wheels, ...", "... ran on {v} wheels of brass"),
            (
                "an apprentice who took {o} apart laid {v} wheels on the floor",
                "inside {p} case, {v} wheels had to mesh without a hitch",
            ),
            ("{r} made do with {v} wheels", "{r} turned {v} wheels"),
        ),
        Relation(
            "weight",
            number(105, 4995, 5, "kilograms", "kg"),
            ("{t} weighed {v}.", "The weight of {t} was {v}.", "{t} had a weight of {v}."),
            ("How much did {t} weigh?", "What was the weight of {t}?", "What weight did {t} have?"),
            ("... brought {v} to the scales", "at {v} in all, ...", "... pressed on the floor with {v}"),
            (
                "the floor had to be strengthened to bear {v}",
                "a team of horses was needed to move the {v} of iron and timber",
            ),
            ("{r} came to {v}", "{r} brought {v} to the scales"),
        ),
        Relation(
            "fuel",
            word(
                "charcoal, peat, whale oil, lamp oil, coal dust, pine cones, straw, hot water, steam, river water, wind, "
                "springs, falling weights, compressed air, coal gas, dried dung, rape oil, alcohol, turpentine, magnets, "
                "pendulums, foot pedals, hand cranks, oxen, mules, donkeys, ponies, tidal water, sunlight, wood chips, tar, "
                "candle wax, gunpowder, fish oil, beeswax, olive stones, nutshells, sawdust, melted snow, treadmills, "
                "sails, bellows, batteries, birch bark, goats, marsh gas"
            ),
            ("{t} was powered by {v}.", "The power for {t} came from {v}.", "The source of power of {t} was {v}."),
            ("What was {t} powered by?", "Where did the power for {t} come from?", "What was the source of power of {t}?"),
            ("... relied on {v} to move", "kept going by {v}, ...", "... drew {p} strength from {v}"),
            (
                "without {v}, not one of {p} wheels would turn",
                "all that {s} needed to start turning was {v}",
            ),
            ("{r} used {v}", "{r} depended on {v}"),
        ),
        Relation(
            "price",
            number(105, 8995, 5, "crowns"),
            ("{t} cost {v}.", "The price of {t} was {v}.", "{t} had a price of {v}."),
            ("How much did {t} cost?", "What was the price of {t}?", "What price did {t} have?"),
            ("... was sold for {v}", "offered at {v}, ...", "... could be ordered for {v}"),
            (
                "a workshop that wanted one had to save up {v}",
                "the catalogue asked {v} for {o}, and the freight was extra",
            ),
            ("{r} could be had for {v}", "{r} went for {v}"),
        ),
        Relation(
            "paint",
            COLOURS,
            ("{t} was painted {v}.", "The colour of {t} was {v}.", "The paint of {t} was {v}."),
            ("What colour was {t} painted?", "What was the colour of {t}?", "What colour was the paint of {t}?"),
            ("... shone in {v}", "coated in {v} against rust, ...", "... was given a coat of {v}"),
            (
                "the tins kept for touching up {p} scratches held {v}",
                "workers came home with spots of {v} on their sleeves from leaning on {o}",
            ),
            ("{r} was finished in {v}", "{r} wore {v}"),
        ),
    ),
)
