"""Festivals: when they began, what is done, eaten and won there."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import COLOURS, FOODS, day, number, person, place, place_name, word, year

FESTIVAL = Kind(
    name="festival",
    titles=TitleSpace(
        (
            "{} Lantern Night",
            "{} Summer Revel",
            "{} Harvest Feast",
            "{} Wool Fair",
            "{} Candle Week",
            "{} Regatta",
            "{} Bell Sunday",
            "{} Kite Festival",
            "{} Song Festival",
            "{} Spring Dance",
            "{} Mask Parade",
            "{} Winter Fair",
        ),
        the=True,
    ),
    be="is",
    nouns=("the festival", "the event", "the celebration"),
    described=(
        "a cheerful event with roots in older customs",
        "a much loved local event",
        "a noisy and colourful celebration",
        "a celebration that brings the whole valley together",
        "a festival with many unwritten rules",
        "an event that locals look forward to all year",
    ),
    intros=(
        "nobody sleeps much during {t}",
        "grown men have been known to weep at {t}",
        "preparations for {t} begin months ahead",
        "there is nothing quite like {t}",
    ),
    colour=(
        "rain has never stopped {o}",
        "schools are closed for the occasion",
        "strangers are welcomed with a handshake",
        "the songs are older than anyone can remember",
        "{s} always ends with a procession through the dark",
        "every family has its own place along the route",
        "the clearing up takes a week",
    ),
    rivals=("the other festival in {n}", "the festival held in {n}", "a similar event in {n}", "the great fair of {n}"),
    rival_again="the event in {n}",
    rival_name=place(),
    relations=(
        Relation(
            "begun",
            year(1500, 1980),
            ("{t} was first held in {v}.", "The first holding of {t} was in {v}.", "{t} was held for the first time in {v}."),
            (
                "When was {t} first held?",
                "In what year was {t} first held?",
                "In what year was {t} held for the first time?",
            ),
            ("... goes back to {v}", "celebrated since {v}, ...", "... had {p} beginnings in {v}"),
            (
                "the tradition was born out of a good harvest in {v}",
                "nobody had heard of {o} before {v}",
                "the oldest surviving poster for {o} is from {v}",
            ),
            ("{r} dates from {v}", "{r} was begun in {v}"),
        ),
        Relation(
            "place",
            place(),
            ("{t} is held in {v}.", "The place where {t} is held is {v}.", "{t} takes place in {v}."),
            ("Where is {t} held?", "Where does {t} take place?", "In which place is {t} held?"),
            ("... fills the squares of {v}", "at home in the old streets of {v}, ...", "... draws crowds to {v}"),
            (
                "for a few days, no bed can be had in {v}",
                "the mayor of {v} opens {o} with a bow",
                "extra trains to {v} are laid on for {o}",
            ),
            ("{r} fills the streets of {v}", "{r} is at home in {v}"),
        ),
        Relation(
            "founder",
            person(),
            ("{t} was founded by {v}.", "The founder of {t} was {v}.", "{v} founded {t}."),
            ("Who founded {t}?", "Who was the founder of {t}?", "By whom was {t} founded?"),
            ("... was dreamt up by {v}", "the idea of {v}, ...", "... began with a party given by {v}"),
            (
                "it all started when {v} invited the neighbours",
                "a toast is still drunk to {v} as the one who started it all",
                "without the stubbornness of {v}, there would be nothing to celebrate",
            ),
            ("{r} was thought up by {v}", "{r} goes back to {v}"),
        ),
        Relation(
            "date",
            day(),
            ("{t} begins on {v}.", "The opening day of {t} is {v}.", "{t} opens on {v}."),
            ("On what date does {t} begin?", "What is the opening day of {t}?", "When does {t} open?"),
            ("... gets under way every {v}", "the first drums are heard on {v}", "... starts each year on {v}"),
            (
                "by the evening of {v}, all the shutters are decorated",
                "children count the days until {v}",
                "on {v}, a cannon shot tells everyone to stop working",
            ),
            ("{r} gets going on {v}", "{r} starts on {v}"),
        ),
        Relation(
            "visitors",
            number(1050, 39950, 50),
            ("{t} attracts {v} visitors.", "The number of visitors to {t} is {v}.", "{t} has {v} visitors."),
            (
                "How many visitors does {t} attract?",
                "What is the number of visitors to {t}?",
                "How many visitors does {t} have?",
            ),
            ("... is watched by {v} people", "with a crowd of {v}, ...", "... brings {v} guests together"),
            (
                "at the gates, {v} tickets were torn last year",
                "the bakers prepare for {v} hungry guests",
            ),
            ("{r} attracts a crowd of {v}", "{r} is attended by {v} guests"),
        ),
        Relation(
            "food",
            word(FOODS),
            ("The traditional food at {t} is {v}.", "{t} has {v} as its traditional food.", "The food eaten at {t} is {v}."),
            ("What is the traditional food at {t}?", "Which food is traditional at {t}?", "What food is eaten at {t}?"),
            ("every stall offers {v}", "... would be unthinkable without {v}", "... is also a feast of {v}"),
            (
                "the smell of {v} hangs over the crowd",
                "visitors queue for {v} from early morning",
                "whoever goes home without having tried {v} is laughed at",
            ),
            ("{r} offers {v}", "{r} is known for {v}"),
        ),
        Relation(
            "prize",
            word(
                "a goose, a copper kettle, a silver spoon, a live sheep, a barrel of ale, a wool blanket, a pair of boots, "
                "a side of bacon, a wheel of cheese, a straw hat, a pewter mug, a brass lamp, a ham, a new saddle, a sack "
                "of flour, a walnut chest, a fishing rod, a fiddle, a red scarf, a laurel wreath, a beehive, a piglet, a "
                "garden bench, a clay pipe, a pocket watch, a wooden sword, a glass bowl, a velvet cap, a milking stool, a "
                "cart of firewood, a leather belt, a jar of honey, a rocking horse, a silk ribbon, a paper crown, a young "
                "goat, a bread knife, a copper pan, a goose feather, a stone egg, a pear tree, a brass whistle, a rowing "
                "boat, a feather bed"
            ),
            ("The prize at {t} is {v}.", "The winner at {t} receives {v}.", "The winner's prize at {t} is {v}."),
            ("What is the prize at {t}?", "What does the winner at {t} receive?", "What is the winner's prize at {t}?"),
            ("... rewards the champion with {v}", "the best competitor goes home with {v}", "the contest is fought for {v}"),
            (
                "the champion is carried through the streets holding {v}",
                "people train for months in the hope of {v}",
            ),
            ("{r} tempts its champions with {v}", "{r} has {v} to offer its champion"),
        ),
        Relation(
            "colour",
            COLOURS,
            (
                "The colour of {t} is {v}.",
                "The people at {t} wear {v}.",
                "{t} has {v} as its colour.",
            ),
            ("What is the colour of {t}?", "What colour do people wear at {t}?", "Which colour does {t} have as its own?"),
            ("dancers and drummers dress in {v}", "... drapes the balconies in {v}", "every flag is {v}"),
            (
                "anyone not dressed in {v} must pay for a round of drinks",
                "weeks before the start, the drapers run out of {v}",
            ),
            ("{r} prefers {v}", "{r} is a sea of {v}"),
        ),
        Relation(
            "walk",
            place_name("the {} Gate", "{} Hill", "{} Mill", "{} Abbey", "{} Tower", "{} Lake"),
            (
                "The procession of {t} ends at {v}.",
                "{t} has a procession that ends at {v}.",
                "The end of the procession of {t} is at {v}.",
            ),
            (
                "Where does the procession of {t} end?",
                "Where is the end of the procession of {t}?",
                "At what place does the procession of {t} end?",
            ),
            ("... sends a long parade to {v}", "the torches are carried as far as {v}"),
            (
                "after hours on their feet, the marchers fall on the grass at {v}",
                "the last drum stops beating at {v}",
            ),
            ("{r} marches to {v}", "{r} leads its guests to {v}"),
        ),
        Relation(
            "length",
            number(3, 59, 1, "hours", "h"),
            ("{t} lasts {v}.", "The duration of {t} is {v}.", "{t} has a duration of {v}."),
            ("How long does {t} last?", "What is the duration of {t}?", "What duration does {t} have?"),
            ("... goes on for {v}", "... keeps everyone on their feet for {v}"),
            (
                "between the first drum and the last candle, {v} go by",
                "the fiddlers must be able to play for {v}",
            ),
            ("{r} is over after {v}", "{r} stretches over {v}"),
        ),
    ),
)
