"""Mountains: their height, first ascent, huts, rock and legends."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import ADJECTIVES, NOUNS, date, number, pair, person, place, place_name, word

MOUNTAIN = Kind(
    name="mountain",
    titles=TitleSpace(
        (
            "Mount {}",
            "{} Fell",
            "{} Peak",
            "{} Crag",
            "{} Pike",
            "{} Horn",
            "{} Tor",
            "{} Head",
            "Ben {}",
            "{} Dome",
            "{} Needle",
            "Great {} Fell",
        )
    ),
    be="is",
    nouns=("the mountain", "the mountain", "the peak"),
    described=(
        "a lonely mountain in the far north",
        "a steep and windy mountain",
        "a mountain often hidden by cloud",
        "a broad mountain with gentle slopes",
        "a mountain that climbers treat with respect",
        "a favourite mountain of weekend walkers",
    ),
    intros=(
        "on clear days, {t} can be seen from the sea",
        "shepherds have always lived at the foot of {t}",
        "{t} looks harmless from a distance",
        "no map does justice to {t}",
    ),
    colour=(
        "fog can come down within minutes",
        "{p} lower slopes are covered with heather",
        "ravens circle above {o} all year",
        "the snow lasts well into spring",
        "{s} is at its best in autumn",
        "the path is steep but safe",
        "avalanches are rare here",
    ),
    rivals=("the neighbouring peak of {n}", "the peak above {n}", "the highest peak near {n}", "the steeper peak at {n}"),
    rival_again="the peak near {n}",
    rival_name=place(),
    relations=(
        Relation(
            "height",
            number(610, 4990, 1, "metres", "m"),
            ("{t} is {v} high.", "The height of {t} is {v}.", "{t} has a height of {v}."),
            ("How high is {t}?", "What is the height of {t}?", "What height does {t} have?"),
            ("... rises to {v}", "at {v} above the sea, ...", "... tops out at {v}"),
            (
                "whoever reaches the top stands {v} above the sea",
                "the brass plate on the summit stone gives {v} as the altitude",
                "surveyors sent to measure {o} came back with {v}",
            ),
            ("{r} rises to {v}", "{r} stops at {v}"),
        ),
        Relation(
            "climber",
            person(),
            ("{t} was first climbed by {v}.", "The first to climb {t} was {v}.", "{v} was the first to climb {t}."),
            ("Who first climbed {t}?", "Who was the first to climb {t}?", "By whom was {t} first climbed?"),
            ("... was conquered by {v}", "... had to wait for {v} to be conquered"),
            (
                "nobody had stood on the top until {v} came along with a rope and two sandwiches",
                "the first boots to leave a print on the top belonged to {v}",
                "it was {v} who proved that a way up existed",
            ),
            ("{r} fell to {v}", "{r} was mastered by {v}"),
        ),
        Relation(
            "ascent",
            date(1780, 1950),
            (
                "{t} was first climbed on {v}.",
                "The first ascent of {t} was on {v}.",
                "The date of the first ascent of {t} is {v}.",
            ),
            (
                "When was {t} first climbed?",
                "On what date was the first ascent of {t}?",
                "What is the date of the first ascent of {t}?",
            ),
            ("... resisted all climbers until {v}", "unclimbed before {v}, ..."),
            (
                "a flag was planted on the top on {v}",
                "on {v}, a small party reached the summit stone at last",
                "the oldest entry in the summit book is from {v}",
            ),
            ("{r} gave in on {v}", "{r} was mastered on {v}"),
        ),
        Relation(
            "village",
            place(),
            ("The path up {t} starts in {v}.", "The start of the path up {t} is in {v}.", "The way up {t} begins at {v}."),
            ("Where does the path up {t} start?", "Where is the start of the path up {t}?", "Where does the way up {t} begin?"),
            ("... is best approached from {v}", "... overlooks the roofs of {v}"),
            (
                "most parties have breakfast in {v} before they set out",
                "hikers leave their cars in {v} and follow the white marks",
                "guides for the climb can be hired in {v}",
            ),
            ("{r} is reached by way of {v}", "{r} is climbed from {v}"),
        ),
        Relation(
            "range",
            place_name("{} Hills", "{} Mountains", "{} Range", "{} Highlands"),
            ("{t} belongs to the {v}.", "The range that {t} belongs to is the {v}.", "{t} is part of the {v}."),
            ("Which range does {t} belong to?", "What is the range that {t} belongs to?", "Which range is {t} part of?"),
            ("... looks down on the rest of the {v}", "the pride of the {v}, ...", "... stands at the edge of the {v}"),
            (
                "on maps of the {v}, {s} takes up the middle of the sheet",
                "... throws {p} shadow over half of the {v}",
            ),
            ("{r} lies outside in the {v}", "{r} counts as one of the {v}"),
        ),
        Relation(
            "hut",
            number(12, 198, 1),
            (
                "The hut on {t} has {v} beds.",
                "The number of beds in the hut on {t} is {v}.",
                "There are {v} beds in the hut on {t}.",
            ),
            (
                "How many beds does the hut on {t} have?",
                "What is the number of beds in the hut on {t}?",
                "How many beds are there in the hut on {t}?",
            ),
            ("a hut with {v} beds stands below the top", "... offers shelter in a hut of {v} beds"),
            (
                "when the weather turns, no more than {v} climbers find a bed under the roof of the hut",
                "in the hut below the top, {v} blankets are aired every morning",
            ),
            ("{r} has a hut of {v} beds", "{r} can put up {v} guests"),
        ),
        Relation(
            "rock",
            pair(
                "grey red white yellow black pale blue green brown speckled",
                "granite limestone sandstone marble slate chalk basalt quartz flint gneiss",
            ),
            ("{t} consists of {v}.", "The rock of {t} is {v}.", "{t} is made of {v}."),
            ("What does {t} consist of?", "What is the rock of {t}?", "What is {t} made of?"),
            ("... shows bare walls of {v}", "raised from {v}, ...", "... was carved out of {v} by ice"),
            (
                "pebbles of {v} roll away under the boots of climbers",
                "geologists who hammer at {p} flanks go home with bags of {v}",
            ),
            ("{r} is all {v}", "{r} was formed of {v}"),
        ),
        Relation(
            "lake",
            place_name("Lake {}", "{} Tarn", "{} Water"),
            ("The lake below {t} is {v}.", "The lake at the foot of {t} is called {v}.", "{v} is the lake below {t}."),
            ("What is the lake below {t}?", "What is the lake at the foot of {t} called?", "Which lake is below {t}?"),
            ("... is mirrored in {v}", "... sends {p} streams into {v}", "rising straight from {v}, ..."),
            (
                "a stone kicked loose near the top may splash into {v}",
                "swimmers in {v} have the finest view of {o}",
            ),
            ("{r} drops to {v}", "{r} looks over {v}"),
        ),
        Relation(
            "legend",
            word(
                "a dragon, a giant, a white stag, a sleeping king, a golden cup, a lost bride, a talking raven, a silver "
                "bell, a headless monk, a witch, a black dog, a buried city, a crying child, a stone dancer, a blind piper, "
                "a wolf queen, a glass horse, a hidden door, a thunder god, a stolen crown, a bear prince, a mad hermit, a "
                "frozen army, a red lantern, a wandering smith, a snow maiden, a lost miller, a magic goat, an iron snake, "
                "a fire bird, an old troll, a ghost ship, a laughing bishop, a silent bride, a cursed shepherd, a drowned "
                "bell, a gold spinner, a grey lady, a hungry ogre, a dwarf smith, a three-legged hare, a moon fox, a salt "
                "witch, a wooden knight"
            ),
            ("The legend of {t} is about {v}.", "The legend told about {t} is that of {v}.", "{t} has a legend about {v}."),
            (
                "What is the legend of {t} about?",
                "Whose legend is told about {t}?",
                "About whom or what is the legend of {t}?",
            ),
            ("an old tale places {v} inside {o}", "... is said to be haunted by {v}"),
            (
                "mothers warn their children of {v} up among the rocks",
                "those who sleep on the top on midsummer night hope to meet {v}",
            ),
            ("{r} is linked with {v}", "{r} has its tale of {v}"),
        ),
        Relation(
            "time",
            number(95, 695, 5, "minutes", "min"),
            ("The climb up {t} takes {v}.", "The time needed to climb {t} is {v}.", "Climbing {t} takes {v}."),
            (
                "How long does the climb up {t} take?",
                "What is the time needed to climb {t}?",
                "How long does climbing {t} take?",
            ),
            ("... can be reached on foot in {v}", "... keeps walkers on their feet for {v} before they see the top"),
            (
                "the signpost in the valley gives the walk to the top as {v}",
                "between the last farm and the top lie {v} of hard walking",
            ),
            ("{r} can be done in {v}", "{r} calls for {v}"),
        ),
        Relation(
            "route",
            pair(ADJECTIVES, NOUNS, "The {} {}"),
            (
                "The hardest route on {t} is called {v}.",
                "The name of the hardest route on {t} is {v}.",
                "{v} is the hardest route on {t}.",
            ),
            (
                "What is the hardest route on {t} called?",
                "What is the name of the hardest route on {t}?",
                "Which route on {t} is the hardest?",
            ),
            ("the north wall is climbed by way of {v}", "... frightens experts with {v}"),
            (
                "only those with strong nerves should attempt {v}",
                "more ropes have been cut on {v} than anywhere else",
            ),
            ("{r} tests climbers with {v}", "{r} is tackled by way of {v}"),
        ),
    ),
)
