"""A seeded generator of sentences over a small vocabulary, so that demo speech needs no data set."""

import random

from num2words import num2words

# fmt: off
PEOPLE = (
    "the teacher", "the old sailor", "my neighbour", "her brother", "the young doctor", "our cousin",
    "the baker", "a tired traveller", "the painter", "his grandmother", "the new student",
    "the careful driver", "a quiet farmer", "the captain", "your friend", "the postman", "the little girl",
    "the tall boy", "an honest lawyer", "the gardener", "my uncle", "the singer", "the mayor",
    "a clever engineer", "the night nurse", "their guide", "the shopkeeper", "a young poet", "the drummer",
    "the judge",
)
PLURAL_PEOPLE = (
    "the children", "my parents", "our neighbours", "the students", "two strangers", "the farmers",
    "the workers", "your friends", "the musicians", "some visitors", "the old men", "her sisters",
    "the players", "they", "we", "many people",
)
ADJECTIVES = (
    "small", "heavy", "golden", "broken", "empty", "beautiful", "ancient", "wooden", "yellow", "dusty",
    "precious", "simple", "enormous", "narrow", "fresh", "silver", "cheap", "strange", "familiar", "warm",
    "frozen", "green", "purple", "round", "square", "fragile", "hidden", "bright", "gentle", "rusty",
)
THINGS = (
    "basket", "letter", "garden", "window", "mirror", "violin", "bicycle", "lantern", "blanket", "bottle",
    "camera", "carpet", "clock", "picture", "engine", "feather", "guitar", "hammer", "jacket", "kettle",
    "ladder", "magazine", "necklace", "orange", "parcel", "quilt", "ribbon", "saddle", "table", "umbrella",
    "vase", "wagon", "book", "chair", "flower", "cheese", "map", "stone", "box", "ring", "bridge", "cloth",
    "drum", "fish", "glove", "house", "jar", "knife", "loaf", "shirt",
)
PAST_VERBS = (
    "bought", "carried", "cleaned", "found", "forgot", "gave away", "hid", "kept", "lifted", "lost", "mended",
    "noticed", "opened", "painted", "pushed", "remembered", "repaired", "sold", "stole", "threw away",
    "touched", "wanted", "watched", "wrapped", "borrowed", "chose", "described", "dropped", "examined",
    "measured",
)
BASE_VERBS = (
    "buy", "carry", "clean", "find", "forget", "hide", "keep", "lift", "lose", "mend", "notice", "open",
    "paint", "push", "remember", "repair", "sell", "touch", "watch", "wrap", "borrow", "choose", "describe",
    "drop", "examine", "measure", "need", "want", "know", "like",
)
MOVES = (
    "walked", "travelled", "hurried", "ran", "drove", "returned", "wandered", "climbed", "sailed", "marched",
    "danced", "moved", "jumped", "rode", "flew",
)
PLACES = (
    "across the river", "behind the church", "in the kitchen", "near the harbour", "on the hill",
    "through the forest", "under the bridge", "at the station", "beside the fire", "around the village",
    "over the mountain", "into the valley", "outside the museum", "along the beach", "below the castle",
    "past the market", "towards the north", "from the library", "between the houses", "down the road",
    "upstairs", "in the middle of the town", "by the window", "at the edge of the field",
)
TIMES = (
    "yesterday", "this morning", "last week", "after breakfast", "before sunset", "every evening",
    "in the winter", "on friday", "at noon", "just now", "a year ago", "during the storm", "on monday",
    "in july", "at midnight", "twice a day", "long ago", "again",
)
ADVERBS = (
    "slowly", "quickly", "quietly", "carefully", "happily", "suddenly", "gently", "proudly", "usually",
    "never", "always", "rarely", "gladly", "finally", "almost", "nearly", "perhaps", "simply", "openly",
    "bravely",
)
SUBJECTS = (
    "the weather", "the music", "the water", "this story", "the answer", "the coffee", "our journey",
    "the sky", "her voice", "the road", "that idea", "the bread", "the question", "the moon", "his garden",
    "the engine", "the game", "my memory", "the wind", "the picture",
)
STATES = (
    "very cold", "much better", "too loud", "almost perfect", "quite strange", "rather expensive",
    "full of surprises", "hard to believe", "as clear as glass", "a little bitter", "worth the trouble",
    "far too short", "easy to forget", "brighter than before", "not what we expected", "exactly right",
    "older than the town", "impossible to explain", "smooth and dark", "good enough",
)
LINKS = (
    "and", "but", "because", "while", "although", "so", "when", "until", "before", "and then", "even though",
    "after",
)
QUESTION_WORDS = (
    "why", "when", "where", "how often", "with whom", "how", "for how long",
)
NUMBER_NOUNS = (
    "apples", "minutes", "letters", "soldiers", "horses", "miles", "tickets", "books", "coins", "candles",
    "windows", "pages", "islands", "bottles", "chairs", "birds", "days", "sheep", "boats", "stars",
)
# fmt: on


def _number(rng: random.Random) -> str:
    words = num2words(rng.randint(2, 10 ** rng.randint(1, 4) - 1))
    return words.replace("-", " ").replace(",", "")


def _thing(rng: random.Random) -> str:
    noun = rng.choice(THINGS)
    if rng.random() < 0.7:
        noun = f"{rng.choice(ADJECTIVES)} {noun}"
    article = rng.choice(("the", "a", "that", "my", "his", "every"))
    return f"an {noun}" if article == "a" and noun[0] in "aeiou" else f"{article} {noun}"


def _someone(rng: random.Random) -> str:
    return rng.choice(PEOPLE if rng.random() < 0.6 else PLURAL_PEOPLE)


def _act(rng: random.Random) -> str:
    adverb = f"{rng.choice(ADVERBS)} " if rng.random() < 0.35 else ""
    return f"{_someone(rng)} {adverb}{rng.choice(PAST_VERBS)} {_thing(rng)}"


def _placed_act(rng: random.Random) -> str:
    return f"{_act(rng)} {rng.choice(PLACES)}"


def _timed_act(rng: random.Random) -> str:
    return f"{_act(rng)} {rng.choice(TIMES)}"


def _movement(rng: random.Random) -> str:
    return f"{_someone(rng)} {rng.choice(MOVES)} {rng.choice(ADVERBS[:8])} {rng.choice(PLACES)}"


def _state(rng: random.Random) -> str:
    subject = rng.choice(SUBJECTS)
    verb = rng.choice(("is", "was", "seemed", "will be", "has been"))
    return f"{subject} {verb} {rng.choice(STATES)}"


def _count(rng: random.Random) -> str:
    counted = f"{_someone(rng)} {rng.choice(PAST_VERBS)} {_number(rng)} {rng.choice(NUMBER_NOUNS)}"
    return f"{counted} {rng.choice(PLACES)}"


def _denial(rng: random.Random) -> str:
    refusal = rng.choice(("didn't", "couldn't", "wouldn't", "won't", "can't"))
    return f"{_someone(rng)} {refusal} {rng.choice(BASE_VERBS)} {_thing(rng)}"


_CLAUSES = (_act, _placed_act, _timed_act, _movement, _state, _count, _denial)


def _clause(rng: random.Random) -> str:
    return rng.choice(_CLAUSES)(rng)


def _question(rng: random.Random) -> str:
    kind = rng.randrange(4)
    tail = rng.choice((rng.choice(PLACES), rng.choice(TIMES), f"{rng.choice(PLACES)} {rng.choice(TIMES)}"))
    if kind == 0:
        word = rng.choice(QUESTION_WORDS)
        return f"{word} did {_someone(rng)} {rng.choice(BASE_VERBS)} {_thing(rng)} {tail}?"
    if kind == 1:
        verb = rng.choice(("did", "could", "would", "will", "should"))
        return f"{verb} {_someone(rng)} {rng.choice(BASE_VERBS)} {_thing(rng)} {tail}?"
    if kind == 2:
        clause = _clause(rng)
        tag = rng.choice(("is it true", "do you remember", "are you sure", "can you believe it"))
        return f"{clause}, {tag}?"
    return f"how many {rng.choice(NUMBER_NOUNS)} did {_someone(rng)} {rng.choice(BASE_VERBS)} {tail}?"


def _joined(rng: random.Random, clauses: int) -> str:
    text = _clause(rng)
    for _ in range(clauses - 1):
        text += rng.choice((f" {rng.choice(LINKS)} ", f", {rng.choice(LINKS)} ")) + _clause(rng)
    return text


def sentence(rng: random.Random) -> str:
    """Draw one sentence of about 2 to 15 seconds, with only lower-case letters, spaces, apostrophes and `. , ?`.

    Args:
        rng: Random number generator. The same state gives the same sentence.
    """
    kind = rng.random()
    if kind < 0.2:
        return _question(rng)
    opening = f"{rng.choice(TIMES[:12])}, " if rng.random() < 0.15 else ""
    clauses = rng.choices((1, 2, 3, 4), weights=(40, 32, 18, 10))[0]
    if kind < 0.9:
        return f"{opening}{_joined(rng, clauses)}."
    return f"{opening}{_clause(rng)}. {_clause(rng)}."
