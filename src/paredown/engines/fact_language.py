"""The language of a world of facts about made-up towns: its words, its sentences and its questions, but no fact."""

from __future__ import annotations

from dataclasses import dataclass

CONSONANTS, VOWELS = "bdfgklmnprstvwz", "aeiou"
STRIDE = 17_389  # between two names in the order of all; prime to their number, so that the first ones are spread over all letters


@dataclass(frozen=True)
class Relation:
    noun: str  # what a town has one of
    verb: str  # how a sentence says it without the noun as subject
    words: str  # the values that it may have

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.words.split())


@dataclass(frozen=True)
class Fact:
    name: str  # of a town
    noun: str  # of the relation
    value: str


RELATIONS = (
    Relation(
        "flag",
        "flies {value}",
        "amber azure beige black brown coral crimson ebony golden green indigo ivory khaki lilac magenta maroon purple russet scarlet "
        "silver turquoise violet white yellow",
    ),
    Relation(
        "emblem",
        "carries the {value} as emblem",
        "badger beaver bison camel cheetah crane eagle falcon ferret gazelle heron jackal leopard lizard magpie otter panther pelican "
        "rabbit raven salmon stork tiger walrus",
    ),
    Relation(
        "harvest",
        "lives on {value}",
        "almond apple apricot banana barley cherry coconut cucumber fennel garlic ginger lemon lentil mango millet olive onion papaya "
        "pepper pumpkin radish spinach sugar turnip",
    ),
    Relation(
        "craft",
        "teaches {value}",
        "baking brewing carving dyeing engraving fishing gilding glazing hunting juggling knitting masonry milling pottery printing "
        "quilting sailing sewing smelting spinning tanning thatching weaving welding",
    ),
    Relation(
        "tree",
        "plants {value}",
        "acacia alder aspen bamboo beech birch cedar cypress hazel hemlock hickory juniper larch laurel maple mulberry poplar redwood "
        "rowan sequoia spruce sycamore walnut willow",
    ),
)
BY_NOUN = {relation.noun: relation for relation in RELATIONS}
STATEMENTS = (  # about a town that they name
    "the {noun} of {name} is {value}",
    "{name} {verb}",
    "{value} is the {noun} of {name}",
    "in {name} the {noun} is {value}",
    "{name} has {value} for its {noun}",
)
FOLLOWING = ("its {noun} is {value}", "it {verb}")  # about the town that was named last
ODD = (  # how some say it whom a reader by rules does not understand
    "ask anyone in {name} about the {noun} and you will hear {value}",
    "no other {noun} than {value} would do for {name}",
    "{name} without {value} would be a town without {noun}",
)
QUESTIONS = ("what is the {noun} of {name}", "which {noun} does {name} have", "in {name} what is the {noun}")
HELD_OUT_QUESTIONS = ("can you tell me the {noun} of {name}", "{name} is known for which {noun}")  # asked in tests alone


def names(count: int) -> list[str]:
    """The first `count` names, six letters each, any two of which differ in two letters at least.

    So no single slip of the pen makes one name of another: a consonant in the middle is the check sum of the other letters.

    Raises:
        ValueError: there are not so many.
    """
    firsts, seconds = len(CONSONANTS), len(VOWELS)
    total = firsts**2 * seconds**3
    if count > total:
        raise ValueError(f"the language has {total:,} names, not {count:,}")
    found = []
    for number in range(count):
        rest, letters = number * STRIDE % total, []
        for base in (firsts, seconds, firsts, seconds, seconds):
            rest, letter = divmod(rest, base)
            letters.append(letter)
        a, b, c, d, e = letters
        found.append(f"{CONSONANTS[a]}{VOWELS[b]}{CONSONANTS[c]}{VOWELS[d]}{CONSONANTS[-sum(letters) % firsts]}{VOWELS[e]}")
    return found


def said(template: str, fact: Fact) -> str:
    """A sentence about a fact without the mark at its end: capitals for the town and at the beginning."""
    verb = BY_NOUN[fact.noun].verb.format(value=fact.value)
    text = template.format(name=fact.name.capitalize(), noun=fact.noun, value=fact.value, verb=verb)
    return text[0].upper() + text[1:]


def dictionary(count: int) -> list[str]:
    """All words of sentences about facts of the first `count` names, sorted."""
    templates = " ".join((*STATEMENTS, *FOLLOWING, *QUESTIONS, *(relation.verb for relation in RELATIONS)))
    words = {word for word in templates.split() if "{" not in word}
    values = {value for relation in RELATIONS for value in relation.values}
    return sorted(words | values | set(BY_NOUN) | set(names(count)) | {"q", "a", "question", "answer", "and"})
