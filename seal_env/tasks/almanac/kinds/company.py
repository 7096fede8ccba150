"""Firms of two partners and what they make."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import ADJECTIVES, COLOURS, NOUNS, date, firm, number, pair, person, place, word, year

COMPANY = Kind(
    name="company",
    titles=TitleSpace(("firm",)),
    be="is",
    nouns=("the firm", "the company", "the firm", "the business"),
    described=(
        "a family firm",
        "a firm of careful habits",
        "a company with more past than future",
        "an old and rather secretive company",
        "a firm run by the same family for generations",
        "a company that seldom makes the news",
    ),
    intros=(
        "most households have something made by {t}",
        "the name of {t} is found in many a kitchen drawer",
        "the story of {t} began in a garden shed",
        "{t} has never spent a penny on posters",
    ),
    colour=(
        "{s} has never borrowed money",
        "the partners still lunch together every Friday",
        "{p} ledgers are written by hand",
        "no outsider has ever seen the accounts",
        "the founders quarrelled often",
        "{p} clerks are said to be the most polite in the trade",
    ),
    rivals=("the rival firm of {n}", "{p} competitor {n}", "the well-known firm of {n}", "the competing firm of {n}"),
    rival_again="{n}",
    rival_name=firm(),
    gaps=(("founded", "fire", 5, 250),),
    relations=(
        Relation(
            "founded",
            year(1650, 1920),
            ("{t} was founded in {v}.", "The founding of {t} was in {v}.", "{t} was founded in the year {v}."),
            ("When was {t} founded?", "In what year was {t} founded?", "What year was {t} founded in?"),
            ("... opened for business in {v}", "set up in {v}, ...", "... took {p} first order in {v}"),
            (
                "the oldest page in {p} ledgers is dated {v}",
                "... has paid wages every week since {v}",
                "the two partners shook hands on the venture in {v}",
            ),
            ("{r} began trading in {v}", "{r} started out in {v}"),
        ),
        Relation(
            "seat",
            place(),
            ("{t} is based in {v}.", "The headquarters of {t} are in {v}.", "{t} has its headquarters in {v}."),
            ("Where is {t} based?", "Where are the headquarters of {t}?", "In which place does {t} have its headquarters?"),
            ("... keeps {p} offices in {v}", "run from a brick house in {v}, ...", "... is directed from {v}"),
            (
                "letters of complaint must be sent to {v}",
                "{p} brass plate can be found on a door in {v}",
                "half of {v} works behind {p} gates",
            ),
            ("{r} has its offices in {v}", "{r} never left {v}"),
        ),
        Relation(
            "product",
            word(
                "umbrellas, pianos, typewriters, bicycles, kettles, raincoats, lamps, matches, pencils, scales, stoves, "
                "biscuits, marmalade, tents, telescopes, buttons, chocolate, carpets, violins, lawnmowers, door locks, "
                "paint, soap, sewing machines, wallpaper, skates, gloves, ropes, cameras, thermometers, spoons, bathtubs, "
                "garden tools, toothbrushes, envelopes, corkscrews, mattresses, teapots, saddles, sledges, ladders, "
                "baskets, candles, spectacles, walking sticks, suitcases, whistles, music boxes"
            ),
            ("{t} makes {v}.", "The main product of {t} is {v}.", "The product of {t} is {v}."),
            ("What does {t} make?", "What is the main product of {t}?", "What is the product of {t}?"),
            ("... supplies half the country with {v}", "... earns {p} keep with {v}", "devoted from the start to {v}, ..."),
            (
                "shopkeepers think of {o} first when a customer asks for {v}",
                "in {p} workshops, {v} and little else fill the shelves",
                "there is hardly a shop selling {v} that does not deal with {o}",
            ),
            ("{r} prefers to sell {v}", "{r} has moved on to {v}"),
        ),
        Relation(
            "workers",
            number(105, 4995, 5),
            ("{t} employs {v} people.", "The number of people employed by {t} is {v}.", "{t} has {v} employees."),
            ("How many people does {t} employ?", "How many people are employed by {t}?", "How many employees does {t} have?"),
            ("... pays wages to {v} workers", "with {v} workers on {p} books, ...", "... gives work to {v} men and women"),
            (
                "every evening, {v} people walk out of {p} gates",
                "at the yearly picnic, {p} cooks must feed {v} workers",
                "a strike in spring sent {v} workers home",
            ),
            ("{r} has {v} on its books", "{r} keeps {v} workers busy"),
        ),
        Relation(
            "director",
            person(),
            ("The director of {t} is {v}.", "{v} is the director of {t}.", "{t} has {v} as its director."),
            ("Who is the director of {t}?", "What is the name of the director of {t}?", "Whom does {t} have as its director?"),
            ("... is run by {v}", "led for many years by {v}, ...", "... answers to {v}"),
            (
                "no cheque leaves the building without the signature of {v}",
                "the largest desk on the top floor belongs to {v}",
                "the last word in every meeting goes to {v}",
            ),
            ("{r} is in the hands of {v}", "{r} takes its orders from {v}"),
        ),
        Relation(
            "colour",
            COLOURS,
            ("The vans of {t} are {v}.", "The colour of the vans of {t} is {v}.", "{t} paints its vans {v}."),
            (
                "What colour are the vans of {t}?",
                "What is the colour of the vans of {t}?",
                "What colour does {t} paint its vans?",
            ),
            ("{p} deliveries arrive in vans of {v}", "... sends out vans of {v}", "known by its vans of {v}, ..."),
            (
                "children wave whenever a van of {v} turns the corner with {p} goods",
                "a flash of {v} in traffic usually means one of {p} vans",
            ),
            ("{r} drives vans of {v}", "{r} settled on {v} for its vans"),
        ),
        Relation(
            "sales",
            number(1100, 98900, 100, "crowns"),
            ("{t} made a profit of {v}.", "The profit of {t} was {v}.", "{t} made {v} in profit."),
            ("How large was the profit of {t}?", "What profit did {t} make?", "How much profit did {t} make?"),
            ("... earned {v} last year", "... ended the year {v} richer", "... closed {p} books with a gain of {v}"),
            (
                "once all bills were paid, {v} remained in the safe",
                "the partners had {v} to share at the end of the year",
                "when the books were closed, {p} accountant underlined the sum of {v}",
            ),
            ("{r} cleared {v}", "{r} gained {v}"),
        ),
        Relation(
            "bestseller",
            pair(ADJECTIVES, NOUNS, "The {} {}"),
            ("The brand name of {t} is {v}.", "{t} sells under the brand name {v}.", "{t} has the brand name {v}."),
            ("What is the brand name of {t}?", "Under which brand name does {t} sell?", "Which brand name does {t} have?"),
            ("... puts {v} on every label", "... trades on the good name of {v}", "{p} goods are marked {v}"),
            (
                "shoppers who ask for {v} are handed something that {s} made",
                "the words stamped on every box from {p} works are {v}",
            ),
            ("{r} calls its goods {v}", "{r} chose {v} for its labels"),
        ),
        Relation(
            "fire",
            date(1880, 1960),
            (
                "The factory of {t} burned down on {v}.",
                "A fire destroyed the factory of {t} on {v}.",
                "The date of the fire at {t} was {v}.",
            ),
            (
                "When did the factory of {t} burn down?",
                "On what date did a fire destroy the factory of {t}?",
                "What was the date of the fire at {t}?",
            ),
            ("... lost {p} main hall to flames on {v}", "... went up in smoke on {v}", "{p} works caught fire on {v}"),
            (
                "on {v}, the night sky above {p} works turned red",
                "a stove left unattended on {v} cost {o} every roof it had",
            ),
            ("{r} had its fire on {v}", "{r} went up in flames on {v}"),
        ),
        Relation(
            "origin",
            person(),
            (
                "{t} learnt its trade secret from {v}.",
                "The trade secret of {t} came from {v}.",
                "{t} has a trade secret that came from {v}.",
            ),
            (
                "From whom did {t} learn its trade secret?",
                "From whom did the trade secret of {t} come?",
                "Who gave {t} its trade secret?",
            ),
            ("... works to a recipe bought from {v}", "... still guards a method handed over by {v}"),
            (
                "on a napkin in {p} safe, {v} once wrote down the method that made {o} rich",
                "without a tip from {v}, {s} would never have found the method {s} keeps under lock and key",
            ),
            ("{r} got its method from {v}", "{r} paid {v} for a method"),
        ),
    ),
)
