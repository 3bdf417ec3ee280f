"""The embedded data's tasks that judges train on: does the response do what the prompt asks?

Every task is crossed: two prompts and two responses, each response right for one prompt and wrong for the
other. Whatever the responses alone look like, they look the same on either side of the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from data_tools import verifiable_words as words
from data_tools.verifiable_topics import TOPICS


@dataclass(frozen=True)
class Task:
    """Two prompts and two responses: ``responses[i]`` is right for ``prompts[i]`` and wrong for the other.

    Attributes:
        features: what ``prompts[i]`` asks for and ``responses[i]`` has, in a few words; none where no judge trains.
        verbs: ask and answer in a sentence, with a place for the feature: "begin with {}", "begins with {}".
    """

    prompts: tuple[str, str]
    responses: tuple[str, str]
    features: tuple[str, str] | None = None
    verbs: tuple[str, str] = ("have {}", "has {}")

    def rationale(self, asked: int, a: int) -> str:
        """Why ``responses[asked]`` is the right one for ``prompts[asked]``, where response A is ``responses[a]``.

        In steps: what is asked, what either response has, and whether that is it.
        """
        ask, has = self.verbs
        lines = [f"It should {ask.format(self.features[asked])}."]
        for letter, i in (("A", a), ("B", 1 - a)):
            fits = "yes" if i == asked else "no"
            lines.append(f"Response {letter} {has.format(self.features[i])}: {fits}.")
        return " ".join(lines)


# A kind draws a task of level 1 (easy) to 3 (hard).
Kind = Callable[[Random, int], Task]

_LEADS = (
    ("Write", "."),
    ("Please write", "."),
    ("Give me", "."),
    ("Please give me", "."),
    ("Compose", "."),
    ("Please compose", "."),
    ("I need", "."),
    ("I would like", "."),
    ("I am looking for", "."),
    ("Think of", "."),
    ("Make up", "."),
    ("Show me", "."),
    ("Can you write", "?"),
    ("Could you write", "?"),
    ("Would you write", "?"),
    ("Could you give me", "?"),
)
_UNITS = ("a sentence", "one sentence", "a short sentence", "a single sentence", "a simple sentence")


def request(rng: Random, what: str) -> str:
    """``what`` asked for in one of many ways: ``Could you write {what}?``"""
    lead, end = rng.choice(_LEADS)
    return f"{lead} {what}{end}"


def sentence_request(rng: Random, clause: str) -> str:
    """A request for a sentence, described by ``clause``."""
    return request(rng, f"{rng.choice(_UNITS)} {clause}")


def article(noun: str) -> str:
    """The noun phrase with a or an before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _quoted(pair: list[str]) -> tuple[str, ...]:
    return tuple(f'"{text}"' for text in pair)


def two(rng: Random, pool: tuple | list) -> list:
    """Two different members of the pool, in random order."""
    return rng.sample(pool, 2)


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and the rest as it is."""
    return text[0].upper() + text[1:]


_TOPICS = tuple(topic for group in TOPICS.values() for topic in group)


def _about(rng: Random, topic: str) -> str:
    return f"{rng.choice(('about', 'on the subject of', 'concerning', 'on the topic of'))} {topic}"


def topic(rng: Random, level: int) -> Task:
    """Write about X. 1: the right response names X; 2: it only hints at X; 3: the other is on a near topic."""
    if level == 3:
        group = rng.choice(list(TOPICS.values()))
        hints = {name: group[name] for name in two(rng, list(group))}
    else:
        groups = two(rng, list(TOPICS.values()))
        hints = {name: group[name] for group, name in ((g, rng.choice(list(g))) for g in groups)}
    if level == 1:
        responses = [rng.choice(words.STATEMENTS).format(t=name) for name in hints]
    else:
        responses = [rng.choice(sentences) for sentences in hints.values()]
    prompts = [sentence_request(rng, _about(rng, name)) for name in hints]
    return Task(tuple(prompts), tuple(responses), tuple(hints), ("be about {}", "is about {}"))


_STYLES = {
    "upper": "capital letters",
    "lower": "small letters",
    "title": "title case",
    "plain": "sentence case",
    "first": "capitals at the start",
    "last": "capitals at the end",
}
# style -> ways to ask for it
_CASES = {
    "upper": ("all in capital letters", "entirely in upper case", "using only capital letters"),
    "lower": ("all in small letters", "entirely in lower case", "using only small letters, no capitals"),
    "title": ("in which every word begins with a capital letter", "in title case, with every word capitalised"),
    "plain": ("with a capital letter at the start and nowhere else", "in which only the first word is capitalised"),
    "first": ("with only the first word in full capitals", "whose first word, and no other, is in full capitals"),
    "last": ("with only the last word in full capitals", "whose last word, and no other, is in full capitals"),
}


def _styled(text: str, style: str) -> str:
    if style == "upper":
        return text.upper()
    if style == "lower":
        return text.lower()
    if style == "plain":
        return text.capitalize()
    parts = text.lower().split()
    if style == "title":
        return " ".join(map(capitalised, parts))
    shouted = 0 if style == "first" else len(parts) - 1
    return " ".join(part.upper() if i == shouted else part for i, part in enumerate(parts))


# "I" is a capital letter in whatever style: sentences that hold it are no test.
_CASE_FRAMES = tuple(frame for frame in words.STATEMENTS if "I" not in frame.split())


def case(rng: Random, level: int) -> Task:
    """Capital or small letters. 1: all of them; 2: the first of every word; 3: only the first or last word."""
    styles = {1: ("upper", "lower"), 2: ("title", rng.choice(("lower", "plain"))), 3: ("first", "last")}[level]
    name = rng.choice(_TOPICS)
    texts = [frame.format(t=name) for frame in two(rng, _CASE_FRAMES)]
    prompts = [sentence_request(rng, f"about {name} {rng.choice(_CASES[style])}") for style in styles]
    responses = [_styled(text, style) for text, style in zip(texts, styles, strict=True)]
    return Task(tuple(prompts), tuple(responses), tuple(_STYLES[style] for style in styles), ("be in {}", "is in {}"))


_NOUNS = words.listed(
    "lantern ladder bridge candle pocket island window hammer blanket whistle feather tunnel orange violin ticket "
    "pillow garden rabbit statue barrel compass curtain envelope fountain necklace umbrella wagon pencil helmet "
    "tractor balloon kettle scarf bottle shadow rocket tiger wallet anchor dragon"
)
# Words that look alike and are not: neither is the other with an ending.
_LOOKALIKES = tuple(
    tuple(pair.split("/"))
    for pair in words.listed(
        "castle/candle peach/beach ladder/letter tower/towel bottle/battle pillow/pillar ribbon/robin mouse/moose "
        "coat/goat boat/boot bean/bear spoon/spool carrot/parrot bucket/basket brush/bush lamp/lamb clock/cloak "
        "mask/mast plate/plane ship/shop angel/angle desert/dessert garden/garment cottage/cabbage camel/candle "
        "star/stair crown/clown pocket/rocket needle/noodle turtle/turkey hammer/hamster barrel/barber window/widow"
    )
)
_KEYWORD_CLAUSES = ("with", "that uses", "containing", "that contains", "in which you use")
_SCENES = (
    "He dreamed about {x} last night.",
    "There was {x} in the old painting.",
    "The boy drew {x} with a blue pen.",
    "She told us a story about {x}.",
    "They saw {x} on television.",
    "In the film, {x} saved the day.",
    "My cousin took a photo of {x}.",
    "The whole joke was about {x}.",
    "I have never seen such {x} before.",
    "We had to guess, and the answer was {x}.",
)
_TWO_SCENES = (
    "He dreamed about {x} and {y}.",
    "There was {x} beside {y} in the painting.",
    "The boy drew {x} and then {y}.",
    "She told us a story about {x} and {y}.",
    "First they saw {x}, later {y}.",
    "The picture shows {x} next to {y}.",
)


_USE = ("use {}", "uses {}")


def keyword(rng: Random, level: int) -> Task:
    """Use this word. 1: one word; 2: two words, of which both responses have one; 3: words that look alike."""
    if level == 2:
        shared, *others = rng.sample(_NOUNS, 3)
        prompts, responses = [], []
        for other in others:
            first, second = two(rng, (shared, other))
            ask = rng.choice((f'the words "{first}" and "{second}"', f'both "{first}" and "{second}"'))
            prompts.append(sentence_request(rng, f"{rng.choice(_KEYWORD_CLAUSES)} {ask}"))
            first, second = two(rng, (shared, other))
            responses.append(rng.choice(_TWO_SCENES).format(x=article(first), y=article(second)))
        return Task(tuple(prompts), tuple(responses), tuple(f'"{shared}" and "{other}"' for other in others), _USE)
    chosen = two(rng, _NOUNS) if level == 1 else two(rng, rng.choice(_LOOKALIKES))
    prompts = [sentence_request(rng, f'{rng.choice(_KEYWORD_CLAUSES)} the word "{word}"') for word in chosen]
    responses = [rng.choice(_SCENES).format(x=article(word)) for word in chosen]
    return Task(tuple(prompts), tuple(responses), _quoted(chosen), _USE)


_FORM_NAMES = {
    "question": "a question",
    "statement": "a statement",
    "calm": "a calm statement",
    "exclamation": "an exclamation",
    "yes-no": "a yes-or-no question",
    "reason": "a question for a reason",
    "command": "a command",
}
# form -> (ways to ask for it, frames that have it)
_FORMS = {
    "question": (("a question", "one question", "a sentence that asks a question"), words.YES_NO + words.REASONS),
    "statement": (("a statement", "a plain statement", "a statement of fact"), words.STATEMENTS),
    "calm": (
        ("a calm statement", "a statement without an exclamation mark", "a sentence that ends with a full stop"),
        words.STATEMENTS,
    ),
    "exclamation": (
        ("an exclamation", "an excited exclamation", "a sentence with an exclamation mark"),
        words.EXCLAMATIONS,
    ),
    "yes-no": (("a yes-or-no question", "a question to be answered with yes or no"), words.YES_NO),
    "reason": (("a question that asks for a reason", 'a question that starts with "why"'), words.REASONS),
    "command": (("a command", "an order to someone", "an instruction for someone"), words.COMMANDS),
}


def form(rng: Random, level: int) -> Task:
    """A question, a statement, … 1: question or statement; 2: exclamation; 3: kinds of question, commands."""
    pairs = {
        1: (("question", "statement"),),
        2: (("exclamation", "calm"), ("exclamation", "question")),
        3: (("yes-no", "reason"), ("command", "statement")),
    }[level]
    forms = rng.choice(pairs)
    name = rng.choice(_TOPICS)
    prompts = [request(rng, f"{rng.choice(_FORMS[f][0])} {_about(rng, name)}") for f in forms]
    responses = [rng.choice(_FORMS[f][1]).format(t=name) for f in forms]
    return Task(tuple(prompts), tuple(responses), tuple(_FORM_NAMES[f] for f in forms), ("be {}", "is {}"))


# The slots of one sentence, in order; a place is one word too, so that any one slot can differ alone.
_SLOTS = tuple(
    words.listed(line)
    for line in (
        "young tired tall quiet friendly hungry brave proud clever lonely famous lazy",
        "sailor baker painter doctor soldier student gardener singer driver cook tailor dancer",
        "painted sold bought found carried hid borrowed lost washed dropped stole cleaned",
        "red blue small broken heavy wooden shiny yellow tiny rusty golden green",
        "boat bicycle chair table basket lamp drum kite clock guitar box hat",
        "harbour school station market castle bridge river garden church mill hotel library",
    )
)
_PREPOSITIONS = ("near", "behind", "beside")


def _tale(slots: list[str], preposition: str) -> str:
    who, person, did, how, thing, place = slots
    return f"The {who} {person} {did} {article(how)} {thing} {preposition} the {place}."


def copy(rng: Random, level: int) -> Task:
    """Repeat this sentence exactly. 1: the other differs in all words; 2: in three; 3: in one."""
    pairs = [two(rng, slot) for slot in _SLOTS]
    differing = set(rng.sample(range(len(_SLOTS)), {1: len(_SLOTS), 2: 3, 3: 1}[level]))
    preposition = rng.choice(_PREPOSITIONS)
    texts = [_tale([p[i if n in differing else 0] for n, p in enumerate(pairs)], preposition) for i in (0, 1)]
    asks = (
        "Repeat this sentence exactly: {}",
        "Please repeat word for word: {}",
        "Copy this sentence: {}",
        "Say exactly this: {}",
        "Write this down without any change: {}",
    )
    words_apart = _quoted([pairs[min(differing)][i] for i in (0, 1)])
    prompts = [rng.choice(asks).format(text) for text in texts]
    return Task(tuple(prompts), tuple(texts), words_apart, ("repeat {}", "repeats {}"))


_OPENERS = words.listed(
    "yesterday today perhaps suddenly luckily sadly once secretly finally recently maybe proudly certainly "
    "apparently possibly afterwards meanwhile quietly later gladly"
)
_NEAR_OPENERS = (
    ("in the morning", "in the evening", "in the winter", "in the summer", "in the end"),
    ("on Monday", "on Friday", "on Sunday", "on Tuesday"),
    ("last week", "last year", "last night", "last month"),
    ("after lunch", "after school", "after the storm", "after the party"),
    ("before breakfast", "before dinner", "before the storm", "before sunset"),
    ("every now and then", "every few weeks", "every second year"),
)
_TIMES = ("yesterday", "this morning", "last week", "on Monday", "last night", "in the spring", "after lunch", "today")
_MANNERS = ("quietly", "proudly", "secretly", "gladly", "happily", "calmly", "eagerly", "nervously", "cheerfully")
_DEEDS = ("painted", "sold", "bought", "carried", "hid", "borrowed", "washed", "cleaned")  # done on purpose


def _deed(rng: Random) -> tuple[str, str]:
    who, person, _, how, thing, _ = (rng.choice(slot) for slot in _SLOTS)
    return f"the {who} {person}", f"{rng.choice(_DEEDS)} {article(how)} {thing}"


def start(rng: Random, level: int) -> Task:
    """Begin with these words. 1: one word; 2: phrases with a word in common; 3: both have them, one at the start."""
    if level == 3:
        openers = [rng.choice(_TIMES), rng.choice(_MANNERS)]
        (who, did), (who_2, did_2) = _deed(rng), _deed(rng)
        time, manner = openers
        texts = [f"{time} {who} {manner} {did}.", f"{manner} {who_2} {did_2} {time}."]
    else:
        openers = two(rng, _OPENERS if level == 1 else rng.choice(_NEAR_OPENERS))
        texts = [" ".join((opener, *_deed(rng))) + "." for opener in openers]
    prompts = []
    for opener in openers:
        clause = rng.choice(("that begins with", "that starts with", "beginning with", "starting with"))
        noun = "words" if " " in opener else "word"
        prompts.append(sentence_request(rng, f'{clause} the {noun} "{opener}"'))
    return Task(tuple(prompts), tuple(map(capitalised, texts)), _quoted(openers), ("begin with {}", "begins with {}"))
