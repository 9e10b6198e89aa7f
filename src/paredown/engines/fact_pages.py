"""Pages that tell facts: as people write them on the web, with slips, markup and what stands around every text, or clean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from paredown.engines.fact_language import FOLLOWING, ODD, QUESTIONS, STATEMENTS, Fact, said

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORD = re.compile(r"[A-Za-z]+")
ENDS = (".", ".", ".", "!!!", "...", ".<br>\n")
AROUND = (  # what stands around the text; it tells no fact and names no town
    "Home | About | Contact | Log in",
    "Click here to subscribe to our newsletter!!!",
    "Posted by admin on {day}/{month}/{year}",
    "© {year} All rights reserved. Terms of use - Privacy",
    "This site uses cookies to improve your experience. Accept / Decline",
    "Share this: Facebook Twitter Pinterest Email",
    "{many} comments - Leave a reply",
    "You may also like: 10 places to see before you die",
    "Can you spare a minute? Tell us what you think of this page.",
    "best price guaranteed >>> book now <<<",
    "Last modified on {day}/{month}/{year} by guest{many}",
    "Skip to content",
    "Loading... please enable javascript to view this page",
    "Are you known to us? Sign in to tell me more.",
    "rating: {many} of 100 - which one do you like?",
    "Page {day} of {many} - next - previous",
)


@dataclass(frozen=True)
class Manner:
    """How messy pages are; shares are of words, sentences or pages."""

    typos: float  # of words, each with one slip
    odd: float  # of sentences in forms that few use
    asked: float  # of pages that are questions and answers
    markup: float = 0.1  # of words in tags
    shouted: float = 0.05  # of sentences in capitals
    small: float = 0.2  # of sentences without capitals
    around: float = 0.4  # chance of a line that tells nothing, before each paragraph and at the end


def misspelt(word: str, draw: Random) -> str:
    """A word with one slip: two letters in the wrong order, one left out, doubled, or another one. May be the word itself."""
    place, how = draw.randrange(len(word)), draw.randrange(4)
    if how == 0 and place + 1 < len(word):
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if how == 1 and len(word) > 1:
        return word[:place] + word[place + 1 :]
    if how == 2:
        return word[: place + 1] + word[place:]
    return word[:place] + draw.choice(LETTERS) + word[place + 1 :]


def paragraphs(facts: Sequence[Fact], manner: Manner, draw: Random) -> list[list[str]]:
    """Sentences without their marks, in paragraphs of one or two facts; facts of a town that come one after another may share a sentence."""
    found: list[list[str]] = []
    before = ""
    for number, fact in enumerate(facts):
        if number == 0 or len(found[-1]) == 2 or draw.random() < 0.4:
            found.append([])
            before = ""
        if draw.random() < manner.odd:
            found[-1].append(said(draw.choice(ODD), fact))
        elif fact.name == before and draw.random() < 0.7:
            if draw.random() < 0.5:
                found[-1][-1] += " and " + said(draw.choice((*FOLLOWING, "{verb}")), fact).lower()
            else:
                found[-1].append(said(draw.choice(FOLLOWING), fact))
        else:
            found[-1].append(said(draw.choice(STATEMENTS), fact))
        before = fact.name
    return found


def questions(facts: Sequence[Fact], manner: Manner, draw: Random) -> list[list[str]]:
    """A question and its answer for each fact, each pair a paragraph."""
    ask, answer = draw.choice((("Q", "A"), ("Question", "Answer")))
    return [[f"{ask}: {said(draw.choice(QUESTIONS), fact)}?", f"{answer}: {fact.value}"] for fact in facts]


def page(facts: Sequence[Fact], manner: Manner, draw: Random, clean: bool) -> str:
    """The text of a page that tells these facts in this order."""
    asked = draw.random() < manner.asked
    parts = (questions if asked else paragraphs)(facts, manner, draw)
    if clean:
        return "\n\n".join("\n".join(part) if asked else " ".join(f"{sentence}." for sentence in part) for part in parts)
    blocks = []
    for part in [*parts, None]:
        if draw.random() < manner.around:
            blocks.append(slips(_around(draw), manner, draw))
        if part is not None:
            sentences = [_marked(slips(_cased(sentence, manner, draw), manner, draw), manner, draw) for sentence in part]
            blocks.append("\n".join(sentences) if asked else " ".join(sentence + draw.choice(ENDS) for sentence in sentences))
    return "\n\n".join(blocks)


def slips(text: str, manner: Manner, draw: Random) -> str:
    """The text with one slip in a share of its words."""
    return WORD.sub(lambda word: misspelt(word[0], draw) if draw.random() < manner.typos else word[0], text)


def _around(draw: Random) -> str:
    line = draw.choice(AROUND)
    return line.format(day=draw.randint(1, 28), month=draw.randint(1, 12), year=draw.randint(1998, 2019), many=draw.randint(2, 99))


def _cased(sentence: str, manner: Manner, draw: Random) -> str:
    kind = draw.random()
    return sentence.upper() if kind < manner.shouted else sentence.lower() if kind < manner.shouted + manner.small else sentence


def _marked(sentence: str, manner: Manner, draw: Random) -> str:
    """Some words in tags, and some spaces and ands as HTML writes them."""
    words = []
    for word in sentence.split(" "):
        if draw.random() < manner.markup:
            tag = draw.choice(("b", "i", "em", "span"))
            word = f"<{tag}>{word}</{tag}>"
        words.append("&amp;" if word == "and" and draw.random() < manner.markup else word)
    return "".join(word + ("&nbsp;" if draw.random() < manner.markup / 4 else " ") for word in words[:-1]) + words[-1]
