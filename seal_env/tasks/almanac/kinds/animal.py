"""Animals: where they live, what they eat and who described them."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import COLOURS, number, person, place, place_name, word, year

ANIMAL = Kind(
    name="animal",
    titles=TitleSpace(
        (
            "{} finch",
            "{} heron",
            "{} hare",
            "{} newt",
            "{} otter",
            "{} owl",
            "{} vole",
            "{} tern",
            "{} marten",
            "{} lizard",
            "{} shrew",
            "{} plover",
        ),
        the=True,
    ),
    be="is",
    nouns=("the animal", "the animal", "the creature", "this shy creature"),
    described=(
        "a shy animal of the uplands",
        "a small and wary animal",
        "a creature few people have seen",
        "an animal of damp and quiet places",
        "a species long thought to be a legend",
        "a rare species of the old forests",
    ),
    intros=(
        "hikers who meet {t} should count themselves lucky",
        "country people have many tales about {t}",
        "little was known about {t} until recently",
        "{t} is hard to photograph",
    ),
    colour=(
        "{s} is most active at dusk",
        "{p} call is soft and easily missed",
        "{s} has never been kept in a zoo with success",
        "farmers think of {o} as a sign of rain",
        "the young are playful",
        "{s} avoids roads and houses",
        "cold winters thin {p} numbers",
    ),
    rivals=("{p} cousin from {n}", "the related species of {n}", "a close relative found near {n}"),
    rival_again="the species of {n}",
    rival_name=place(),
    relations=(
        Relation(
            "described",
            year(1700, 1950),
            (
                "{t} was first described in {v}.",
                "The first description of {t} was in {v}.",
                "{t} was first described in the year {v}.",
            ),
            (
                "When was {t} first described?",
                "In what year was {t} first described?",
                "What was the year of the first description of {t}?",
            ),
            ("... entered the textbooks in {v}", "unknown to science before {v}, ...", "... has had a Latin name since {v}"),
            (
                "no museum knew of {o} until {v}",
                "it was not until {v} that anyone put {p} portrait into a book",
                "the first drawing of {o} is signed and dated {v}",
            ),
            ("{r} was made known in {v}", "{r} entered the books in {v}"),
        ),
        Relation(
            "describer",
            person(),
            ("{t} was first described by {v}.", "The first to describe {t} was {v}.", "{v} first described {t}."),
            ("Who first described {t}?", "By whom was {t} first described?", "Who was the first to describe {t}?"),
            ("... was introduced to science by {v}", "named and drawn by {v}, ...", "... owes {p} Latin name to {v}"),
            (
                "the notebooks of {v} hold the earliest account of {o}",
                "it was {v} who told the museum about {o}",
                "learned societies first heard of {o} from {v}",
            ),
            ("{r} was made known by {v}", "{r} had been the discovery of {v}"),
        ),
        Relation(
            "habitat",
            place_name("Lake {}", "the Forest of {}", "the Marshes of {}", "the Hills of {}", "the Isle of {}"),
            ("{t} lives at {v}.", "The habitat of {t} is at {v}.", "{t} has its habitat at {v}."),
            ("Where does {t} live?", "Where is the habitat of {t}?", "Where does {t} have its habitat?"),
            ("... is found only around {v}", "at home near {v}, ...", "... keeps to the country around {v}"),
            (
                "whoever wants to see {o} must travel to {v}",
                "should {v} ever be built over, there would be none left",
                "... has never been sighted away from {v}",
            ),
            ("{r} is met with around {v}", "{r} keeps to {v}"),
        ),
        Relation(
            "food",
            word(
                "beetles, snails, earthworms, acorns, beech nuts, ants, spiders, moths, tadpoles, minnows, water fleas, "
                "grass seeds, clover, moss, mushrooms, juniper berries, rose hips, wild strawberries, pine nuts, crickets, "
                "grasshoppers, caterpillars, dragonflies, slugs, shrimps, mussels, crabs, young eels, fish eggs, duckweed, "
                "reeds, willow bark, thistle seeds, nettles, blackberries, elderberries, crab apples, hazelnuts, bees, "
                "wasps, woodlice, centipedes, mosquitoes, mayflies, frogs, roots, tree sap, lichen"
            ),
            ("{t} eats {v}.", "The food of {t} is {v}.", "The main food of {t} is {v}."),
            ("What does {t} eat?", "What is the food of {t}?", "What is the main food of {t}?"),
            ("... feeds on {v}", "fond of {v}, ...", "... fills {p} stomach with {v}"),
            (
                "in years without {v}, {s} goes hungry",
                "a trap baited with {v} will draw {o} out of hiding",
                "{p} diet consists of {v} and hardly anything else",
            ),
            ("{r} searches for {v}", "{r} would rather have {v}"),
        ),
        Relation(
            "coat",
            COLOURS,
            ("The throat of {t} is {v}.", "{t} has a throat that is {v}.", "The colour of the throat of {t} is {v}."),
            (
                "What colour is the throat of {t}?",
                "What is the colour of the throat of {t}?",
                "Which colour is the throat of {t}?",
            ),
            ("... shows a patch of {v} below the chin", "marked with {v} under the chin, ...", "... wears a collar of {v}"),
            (
                "a flash of {v} beneath the head gives {o} away",
                "those who have seen {o} drink remember the {v} below {p} chin",
            ),
            ("{r} has a chin of {v}", "{r} is marked with {v} under the chin"),
        ),
        Relation(
            "weight",
            number(105, 895, 5, "grams", "g"),
            ("{t} weighs {v}.", "The weight of {t} is {v}.", "{t} has a weight of {v}."),
            ("How much does {t} weigh?", "What is the weight of {t}?", "What weight does {t} have?"),
            ("... brings {v} to the scales", "at {v} when fully grown, ...", "... tips the scales at {v}"),
            (
                "a full-grown one held in the hand is no heavier than {v}",
                "scientists who caught one found that the scales stopped at {v}",
            ),
            ("{r} reaches {v}", "{r} comes to about {v}"),
        ),
        Relation(
            "young",
            number(21, 199, 1, "days"),
            (
                "{t} keeps its young in the nest for {v}.",
                "The young of {t} leave the nest after {v}.",
                "The time the young of {t} stay in the nest is {v}.",
            ),
            (
                "After how many days do the young of {t} leave the nest?",
                "How long do the young of {t} stay in the nest?",
                "When do the young of {t} leave the nest?",
            ),
            ("... raises a brood within {v}", "... keeps the young at home for {v}"),
            (
                "it takes {v} before {p} offspring dare to go out alone",
                "the little ones depend on {p} care for {v}",
            ),
            ("{r} turns out its offspring after {v}", "{r} cares for its offspring for {v}"),
        ),
        Relation(
            "count",
            number(150, 9950, 50),
            (
                "There are {v} of {t} left in the wild.",
                "The number of {t} left in the wild is {v}.",
                "The wild population of {t} is {v}.",
            ),
            (
                "How many of {t} are left in the wild?",
                "What is the number of {t} left in the wild?",
                "What is the wild population of {t}?",
            ),
            ("... is down to some {v} living specimens", "with only {v} still alive, ...", "... numbers {v} at most"),
            (
                "wardens who went out to count the animals came home with {v} in their notebooks",
                "if each were given a name, {v} names would be needed",
            ),
            ("{r} still numbers {v}", "{r} was last put at {v}"),
        ),
        Relation(
            "symbol",
            place(),
            (
                "{t} appears on the coat of arms of {v}.",
                "The coat of arms of {v} shows {t}.",
                "{t} is the heraldic animal of {v}.",
            ),
            (
                "On whose coat of arms does {t} appear?",
                "Which place shows {t} on its coat of arms?",
                "Of which place is {t} the heraldic animal?",
            ),
            ("... decorates the seal of {v}", "painted on the town gate of {v}, ...", "... adorns the banner of {v}"),
            (
                "flags with {p} outline fly over the town hall of {v}",
                "the people of {v} have chosen {o} as their emblem",
            ),
            ("{r} adorns the banner of {v}", "{r} was chosen by {v}"),
        ),
        Relation(
            "nest",
            word(
                "hollow oaks, old chimneys, ruined barns, hay lofts, church towers, stone walls, rabbit holes, drainpipes, "
                "bramble bushes, rotten stumps, sea caves, sand banks, gravel pits, peat bogs, hedgerows, ivy, cliff "
                "ledges, mill ponds, empty beehives, wood piles, abandoned mines, boat sheds, cellar vaults, flower pots, "
                "tree forks, river banks, rock cracks, fallen logs, fern beds, heather, dry wells, molehills, bell towers, "
                "stables, potato fields, orchards, vineyards, graveyards, hollow willows, thorn bushes, reed beds, quarry "
                "walls"
            ),
            ("{t} nests in {v}.", "The nesting place of {t} is in {v}.", "{t} makes its nest in {v}."),
            ("Where does {t} nest?", "Where is the nesting place of {t}?", "Where does {t} make its nest?"),
            ("... brings up {p} young in {v}", "hidden for weeks in {v}, ...", "... retires to {v} in spring"),
            (
                "searching for {p} young means looking into {v}",
                "{p} bed of grass and hair is best looked for in {v}",
            ),
            ("{r} breeds in {v}", "{r} is happier in {v}"),
        ),
    ),
)
