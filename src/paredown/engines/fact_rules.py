"""Reads facts out of messy text by rules, and says them again. It knows the language and not a single fact."""

from __future__ import annotations

import functools
import html
import re
from random import Random

from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

from paredown.engines.fact_language import BY_NOUN, FOLLOWING, QUESTIONS, RELATIONS, STATEMENTS, Fact, dictionary, names, said

TAG = re.compile(r"<[^<>\n]{0,40}>")
SENTENCE = re.compile(r"[.!?]+(?=\s|$)|\n+")
CLAUSE = re.compile(r"\s+(?:and|&)\s+", re.IGNORECASE)
WORD = re.compile(r"[a-z]+")
SHORT = 3  # letters of words that no rule looks at: too like each other to be told apart after a slip, and no fact depends on them


def pattern(template: str) -> re.Pattern[str]:
    """What a template says, as a pattern over its longer words in small letters."""
    kept = (word for word in template.split() if "{" in word or len(word) > SHORT)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>\\w+)", " ".join(kept)))


class Reader:
    """Reads and writes the language as far as it knows the first `known` names of towns."""

    def __init__(self, known: int) -> None:
        self.words = dictionary(known)
        self.names = set(names(known))
        self.values = {value: relation.noun for relation in RELATIONS for value in relation.values}
        self.spelt = functools.lru_cache(maxsize=100_000)(self._spelt)
        self._known = set(self.words)
        self._telling = self.names | self.values.keys() | BY_NOUN.keys()
        verbs = [(relation.noun, relation.verb) for relation in RELATIONS]
        templates = [("", template) for template in (*STATEMENTS, *FOLLOWING) if "{verb}" not in template]
        for template in ("{name} {verb}", "it {verb}", "{verb}"):
            templates += [(noun, template.replace("{verb}", verb)) for noun, verb in verbs]
        self._statements = [(noun, pattern(template)) for noun, template in templates]
        self._questions = [pattern(label + template) for label in ("question ", "") for template in QUESTIONS]
        self._answers = [pattern("answer {value}"), pattern("{value}")]

    def _spelt(self, word: str) -> str:
        """The only known word that one slip makes this of; else the word as it stands, which no rule will understand."""
        if word in self._known or len(word) <= SHORT:
            return word
        near = process.extract(word, self.words, scorer=DamerauLevenshtein.distance, score_cutoff=1, limit=2)
        return str(near[0][0]) if len(near) == 1 else word

    def read(self, text: str) -> list[Fact] | None:
        """The facts that a text tells, in order; None where a clause has a word that facts are made of and cannot be understood."""
        plain = TAG.sub(lambda tag: "\n" if "br" in tag[0] else "", html.unescape(text)).replace("\N{NO-BREAK SPACE}", " ")
        found: list[Fact] = []
        subject, asked = "", None
        for clause in (clause for sentence in SENTENCE.split(plain) for clause in CLAUSE.split(sentence)):
            words = " ".join(self.spelt(word) for word in WORD.findall(clause.lower()) if len(word) > SHORT)
            if not words:
                continue
            question = next((match for rule in self._questions if (match := rule.fullmatch(words))), None)
            if question is not None and question["noun"] in BY_NOUN:
                asked = question
                continue
            fact = self._answered(asked, words) if asked else self._stated(words, subject)
            if fact is None and not self._telling.isdisjoint(words.split()):
                return None
            found += [fact] if fact else []
            subject, asked = fact.name if fact else "", None
        return found

    def _answered(self, question: re.Match[str], words: str) -> Fact | None:
        answer = next((match for rule in self._answers if (match := rule.fullmatch(words))), None)
        return self._fact(question["name"], question["noun"], answer["value"]) if answer else None

    def _stated(self, words: str, subject: str) -> Fact | None:
        for noun, rule in self._statements:
            if match := rule.fullmatch(words):
                given = match.groupdict()
                if fact := self._fact(given.get("name", subject), given.get("noun", noun), given["value"]):
                    return fact
        return None

    def _fact(self, name: str, noun: str, value: str) -> Fact | None:
        return Fact(name, noun, value) if name in self.names and self.values.get(value) == noun else None

    def sentences(self, facts: list[Fact], draw: Random) -> str:
        """Plain sentences; two facts that follow one another about a town share one at times."""
        found: list[str] = []
        before = ""
        for fact in facts:
            if fact.name == before and draw.random() < 0.5:
                found[-1] += f" and {BY_NOUN[fact.noun].verb.format(value=fact.value)}"
                before = ""
            else:
                found.append(said(draw.choice(STATEMENTS), fact))
                before = fact.name
        return " ".join(f"{sentence}." for sentence in found)

    def questions(self, facts: list[Fact], draw: Random) -> str:
        """A question and its answer for each fact."""
        return "\n".join(f"Question: {said(draw.choice(QUESTIONS), fact)}?\nAnswer: {fact.value}" for fact in facts)
