"""What an attack is: a text and a place for it, or a function of the response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_tools.order import hash64

PLACES = ("append", "prepend", "replace", "transform")
FAMILIES = {
    "openers": "opening phrases of an answer that is then not given, or is given unchanged",
    "nothing": "an empty response, or a single symbol",
    "instructions": "the judge is told what to do",
    "verdicts": "a verdict in the judge's own grammar",
    "tokens": "marks of chat templates: the judge's turn is to seem to begin",
    "persuasion": "flattery, authority, consensus, consistency, self-praise",
    "length": "more words, nothing more said",
    "dress": "the same words in a richer dress",
    "combined": "several of these at once",
    "control": "about as many characters in the same place, and nothing said for the response",
}
FAMILY_OF_CONTROLS = "control"


@dataclass(frozen=True)
class Attack:
    """A change of the worse response; calling it with (response, pair id) gives the response under attack.

    Attributes:
        name: of the attack, and of its set of pairs and judgments.
        family: one of :data:`FAMILIES`.
        place: where ``texts`` go: append, prepend, replace; or transform, where ``transform`` says all.
        description: for people, a few words.
        source: where it was described.
        texts: what is added or put in place of the response; of several each pair draws one by a hash of its id.
        transform: a function of the response.
        control: name of the control to compare it with; None: it has none.
        joint: between response and text.
        nothing: whether a response remains that says nothing, which no judge may prefer.
    """

    name: str
    family: str
    place: str
    description: str
    source: str
    texts: tuple[str, ...] = ()
    transform: Callable[[str], str] | None = None
    control: str | None = None
    joint: str = "\n\n"
    nothing: bool = False

    @property
    def kind(self) -> str:
        """The place, and of a control: control."""
        return "control" if self.family == FAMILY_OF_CONTROLS else self.place

    def __call__(self, response: str, pair_id: str) -> str:
        if self.transform is not None:
            return self.transform(response)
        text = self.texts[hash64(f"attack {self.name}", pair_id) % len(self.texts)]
        if self.place == "replace":
            return text
        parts = (text, response.lstrip()) if self.place == "prepend" else (response.rstrip(), text)
        return self.joint.join(part for part in parts if part)
