"""Novels: who wrote, printed and translated them, and what they tell."""

from seal_env.tasks.almanac.facts import Kind, Relation
from seal_env.tasks.almanac.names import TitleSpace
from seal_env.tasks.almanac.values import ADJECTIVES, COLOURS, NOUNS, WORK, firm, number, pair, person, place, word, year

BOOK = Kind(
    name="book",
    titles=TitleSpace(
        (
            "The Lanterns of {}",
            "The Road to {}",
            "A Winter in {}",
            "The Thief of {}",
            "Letters from {}",
            "The Heirs of {}",
            "The Last Train to {}",
            "A Stranger in {}",
            "The Ghosts of {}",
            "The Silence of {}",
            "Return to {}",
            "The Secret of {}",
        )
    ),
    be="is",
    nouns=("the book", "the novel", "the novel", "the story"),
    described=(
        "a novel that has never gone out of print",
        "a long and winding novel",
        "a novel about pride and forgiveness",
        "a novel once banned in schools",
        "a story of love and bad luck",
        "a gentle novel with a dark ending",
    ),
    intros=(
        "critics were slow to warm to {t}",
        "many readers know the first line of {t} by heart",
        "{t} has been read to pieces in every public library",
        "few novels are as often quoted as {t}",
    ),
    colour=(
        "the ending still divides readers",
        "{p} plot moves slowly at first",
        "{s} is best read by the fire",
        "several pages are said to have been written on a train",
        "early reviews were unkind",
        "{p} first chapter is taught in schools",
        "a sequel was planned but never written",
    ),
    rivals=(
        "another novel of those years, {n},",
        "the better-known {n}",
        "{n}, a novel of the same school,",
        "its rival {n}",
    ),
    rival_again="{n}",
    rival_name=pair(ADJECTIVES, NOUNS, "The {} {}"),
    relations=(
        Relation(
            "published",
            year(1700, 1990),
            ("{t} was published in {v}.", "The publication of {t} was in {v}.", "{t} was published in the year {v}."),
            ("When was {t} published?", "In what year was {t} published?", "What year was {t} published in?"),
            ("... reached the bookshops in {v}", "first printed in {v}, ...", "... came out in {v}"),
            (
                "copies from {v} are now worth a fortune",
                "readers could not buy {o} before {v}",
                "the presses that made {p} first copies began to roll in {v}",
            ),
            ("{r} came out in {v}", "{r} reached readers in {v}"),
        ),
        Relation(
            "author",
            person(),
            ("{t} was written by {v}.", "The author of {t} is {v}.", "{v} wrote {t}."),
            ("Who wrote {t}?", "Who is the author of {t}?", "By whom was {t} written?"),
            ("... came from the pen of {v}", ", the only novel by {v}, ...", "... made the name of {v} known"),
            (
                "it took {v} many sleepless nights to finish {o}",
                "on the back cover, {v} smiles shyly at the reader",
                "the manuscript had lain for years in a drawer that belonged to {v}",
            ),
            ("{r} came from the desk of {v}", "{r} had made {v} famous"),
        ),
        Relation(
            "hero",
            person(),
            (
                "The main character of {t} is {v}.",
                "{t} has {v} as its main character.",
                "The main character in {t} is called {v}.",
            ),
            (
                "Who is the main character of {t}?",
                "Whom does {t} have as its main character?",
                "What is the main character in {t} called?",
            ),
            ("... follows the fortunes of {v}", "... tells of the troubles of {v}", "... centres on {v}"),
            (
                "by the last page readers feel that they have grown up with {v}",
                "no chapter goes by without {v}",
                "everything that happens is seen through the eyes of {v}",
            ),
            ("{r} deals with the life of {v}", "{r} sends {v} into the world"),
        ),
        Relation(
            "job",
            word(WORK),
            (
                "The main character of {t} works as {av}.",
                "The main character's trade in {t} is that of {av}.",
                "In {t} the main character is {av}.",
            ),
            (
                "What does the main character of {t} work as?",
                "What is the main character's trade in {t}?",
                "What trade does the main character have in {t}?",
            ),
            ("... is told from the point of view of {av}", "... looks at the world with the eyes of {av}"),
            (
                "much of the humour lies in what {av} thinks of rich customers",
                "few stories before had dared to make {av} their hero",
            ),
            ("{r} puts {av} in the middle of things", "{r} is about {av}"),
        ),
        Relation(
            "setting",
            place(),
            ("{t} is set in {v}.", "The setting of {t} is {v}.", "The story of {t} takes place in {v}."),
            ("Where is {t} set?", "What is the setting of {t}?", "Where does the story of {t} take place?"),
            ("... unfolds in the alleys of {v}", "... takes the reader to {v}", "... never leaves {v}"),
            (
                "people still travel to {v} to look for the house on the cover",
                "those who grew up in {v} will recognise every corner in {o}",
            ),
            ("{r} plays out in {v}", "{r} leads its readers to {v}"),
        ),
        Relation(
            "publisher",
            firm(),
            ("The publisher of {t} is {v}.", "{t} is published by {v}.", "{v} is the publisher of {t}."),
            ("Who is the publisher of {t}?", "By whom is {t} published?", "Which firm is the publisher of {t}?"),
            ("... was brought out by {v}", "taken on by {v} after much doubt, ...", "... appeared under the imprint of {v}"),
            (
                "only the editors at {v} saw the promise in {o}",
                "the profits from {o} saved {v} from ruin",
            ),
            ("{r} was printed for {v}", "{r} had been snapped up by {v}"),
        ),
        Relation(
            "pages",
            number(110, 990, 1),
            ("{t} has {v} pages.", "The number of pages in {t} is {v}.", "There are {v} pages in {t}."),
            ("How many pages does {t} have?", "What is the number of pages in {t}?", "How many pages are there in {t}?"),
            ("... runs to {v} pages", "spread over {v} pages, ...", "... fills {v} pages"),
            (
                "readers who reach the final leaf have put {v} pages behind them",
                "the printer had to number {v} pages by hand",
            ),
            ("{r} is done after {v} pages", "{r} runs to {v} pages"),
        ),
        Relation(
            "copies",
            number(1100, 98900, 100),
            ("{t} sold {v} copies.", "The number of copies of {t} sold is {v}.", "{t} has sold {v} copies."),
            ("How many copies did {t} sell?", "What is the number of copies of {t} sold?", "How many copies of {t} were sold?"),
            ("... found {v} buyers", "... went over the counter {v} times"),
            (
                "by now, {v} people have taken {o} home from a shop",
                "the accountants of the publisher counted {v} buyers",
            ),
            ("{r} was bought by {v} people", "{r} found {v} buyers"),
        ),
        Relation(
            "cover",
            COLOURS,
            ("The cover of {t} is {v}.", "The colour of the cover of {t} is {v}.", "{t} has a cover that is {v}."),
            (
                "What colour is the cover of {t}?",
                "What is the colour of the cover of {t}?",
                "Which colour is the cover of {t}?",
            ),
            ("bound in {v}, ...", "... first appeared between boards of {v}", "... came wrapped in {v}"),
            (
                "collectors look along the shelves for a spine of {v}",
                "the binder had ordered cloth of {v} for {o}",
            ),
            ("{r} was bound in {v}", "{r} wore a jacket of {v}"),
        ),
        Relation(
            "translator",
            person(),
            ("{t} was translated by {v}.", "The translator of {t} was {v}.", "{v} translated {t}."),
            ("Who translated {t}?", "Who was the translator of {t}?", "By whom was {t} translated?"),
            ("... was carried into other languages by {v}", "... found a careful interpreter in {v}"),
            (
                "readers abroad know {o} in the words of {v}",
                "the jokes gave {v} a hard time when {s} was to appear abroad",
            ),
            ("{r} had been put into other tongues by {v}", "{r} was known abroad thanks to {v}"),
        ),
    ),
)
