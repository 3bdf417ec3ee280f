"""The embedded data's kinds that no judge trains on: the same skill, asked for in other shapes."""

from __future__ import annotations

from random import Random

from data_tools import verifiable_words as words
from data_tools.verifiable_kinds import Task, article, capitalised, sentence_request, two

_NAME = (
    "Name {}.",
    "Please name {}.",
    "Can you name {}?",
    "Could you name {}?",
    "Give me an example of {}.",
    "What is an example of {}?",
    "I need the name of {}.",
    "Think of {} and tell me.",
    "Tell me the name of {}.",
)
_TELL = (
    "Tell me {}.",
    "Please tell me {}.",
    "Can you tell me {}?",
    "Could you tell me {}?",
    "Give me {}.",
    "Please give me {}.",
    "I need {}.",
    "I am looking for {}.",
    "Think of {}.",
    "Do you know {}?",
)
_ANSWERS = ("{}.", "How about {}?", "My answer is {}.", "I would say {}.", "I choose {}.", "It could be {}.")


def _answer(rng: Random, text: str) -> str:
    return capitalised(rng.choice(_ANSWERS).format(text))


def category(rng: Random, level: int) -> Task:
    """Name a fruit, a tool, … 1: distant categories; 2: near ones; 3: one category, told apart by a property."""
    if level == 1:
        named = [rng.choice(list(field.items())) for field in two(rng, list(words.CATEGORIES.values()))]
    elif level == 2:
        named = two(rng, list(rng.choice(list(words.CATEGORIES.values())).items()))
    else:
        named = two(rng, rng.choice(words.HALVES))
    prompts = [rng.choice(_NAME).format(ask) for ask, _ in named]
    return Task(tuple(prompts), tuple(_answer(rng, article(rng.choice(members))) for _, members in named))


_PLACES = words.listed(
    "river bridge station market castle harbour garden library church island tower village forest school bakery "
    "theatre museum stable factory lighthouse"
)
_WALKS = (
    "The young doctor walked slowly {}.",
    "My cousin ran all the way {}.",
    "After lunch we went together {}.",
    "An old man drove his car {}.",
    "Every Sunday they travel {}.",
    "The tired children followed us {}.",
)


def ending(rng: Random, level: int) -> Task:
    """End with these words. 1: one word; 2: phrases with words in common; 3: both have it, one at the end."""
    places = two(rng, _PLACES)
    if level == 3:
        walks = [f"from the {b} to the {a}" for a, b in (places, places[::-1])]
    else:
        walks = [f"to the {place}" for place in places]
    prompts = []
    for place in places:
        end = f'the words "to the {place}"' if level == 2 else f'the word "{place}"'
        clause = rng.choice(("that ends with", "ending with", "that closes with", "that finishes with"))
        prompts.append(sentence_request(rng, f"{clause} {end}"))
    return Task(tuple(prompts), tuple(rng.choice(_WALKS).format(walk) for walk in walks))


def mood(rng: Random, level: int) -> Task:
    """A happy, a sad, … sentence. 1: it says so; 2: a scene shows it; 3: two unpleasant moods."""
    bank = words.FELT if level == 1 else words.SHOWN
    moods = two(rng, ("sad", "angry", "scared", "bored")) if level == 3 else two(rng, ("happy", "sad"))
    prompts = []
    for name in moods:
        clause = rng.choice(("about someone who is", "about somebody who feels", "that shows a person who is"))
        prompts.append(sentence_request(rng, f"{clause} {name}"))
    return Task(tuple(prompts), tuple(rng.choice(bank[name]) for name in moods))


_SAY = ('Say "{}" in {}.', 'Please say "{}" in {}.', 'How do you say "{}" in {}?', 'Translate "{}" into {}.')


def language(rng: Random, level: int) -> Task:
    """Write in French, German, … 1: English or not; 2: two foreign ones; 3: translate a phrase."""
    foreign = ("French", "German", "Spanish")
    if level == 3:
        which = rng.randrange(3)
        phrases = two(rng, list(words.PHRASES))
        prompts = [rng.choice(_SAY).format(phrase, foreign[which]) for phrase in phrases]
        return Task(tuple(prompts), tuple(capitalised(words.PHRASES[phrase][which]) + "." for phrase in phrases))
    names = two(rng, ("English", rng.choice(foreign)) if level == 1 else foreign)
    return Task(
        tuple(sentence_request(rng, f"in {name}") for name in names),
        tuple(rng.choice(words.LANGUAGES[name]) for name in names),
    )


def opposite(rng: Random, level: int) -> Task:
    """The opposite of a word. 1: of distant words; 2: of words of one field; 3: opposite or same meaning."""
    if level == 3:
        word, *answers = rng.choice(rng.choice(list(words.OPPOSITES.values())))
        asks = (f'that means the opposite of "{word}"', f'that means the same as "{word}"')
    else:
        if level == 1:
            triples = [rng.choice(field) for field in two(rng, list(words.OPPOSITES.values()))]
        else:
            triples = two(rng, rng.choice([field for field in words.OPPOSITES.values() if len(field) > 2]))
        asks = [f'that means the opposite of "{word}"' for word, _, _ in triples]
        answers = [other for _, other, _ in triples]
    prompts = [rng.choice(_TELL).format(f"{rng.choice(('a word', 'one word', 'a single word'))} {ask}") for ask in asks]
    return Task(tuple(prompts), tuple(_answer(rng, f'"{answer}"') for answer in answers))
