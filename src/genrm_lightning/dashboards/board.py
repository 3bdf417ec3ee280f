"""What a fit's dashboard writes, and where: into the runs of the fit's own TensorBoard loggers."""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from data_tools.errors import is_full
from data_tools.order import hash64
from data_tools.visible import visible
from genrm_lightning.dashboards import hparams
from genrm_lightning.dashboards.held_out import ValidationRows, by_category, numbers
from genrm_lightning.dashboards.layout import CATEGORY, ENDS, layout
from genrm_lightning.dashboards.logger import event_files, first_step
from genrm_lightning.dashboards.one_curve import curves_before

_FEWEST = 20  # presentations that pictures are drawn of: of fewer they would show noise
_SHARE = 0.02  # of a fit's time that pictures may take
_NAME = 40  # characters of a category in a tag
_WHY = 200  # characters of an error


class Board:
    """The first process' hand on the loggers' event files.

    Args:
        before: categories of other runs' layouts that are to stand above.
        begins: step at which the fit goes on, 0: it begins. Curves that a run has from before it stay in the layout,
            whether they get new points or not.
    """

    def __init__(self, loggers: Sequence[TensorBoardLogger], before: Sequence[str] = (), begins: int = 0) -> None:
        self.runs = [(logger.experiment, first_step(logger)) for logger in loggers]
        self.folders = [Path(logger.log_dir) for logger in loggers]
        self.before = before
        # Not what a checkpoint remembers: the validation at its own step comes after it.
        self.known = set.intersection(
            *(curves_before(folder, start + begins) for folder, (_, start) in zip(self.folders, self.runs, strict=True))
        )
        self.written: set[str] = set()  # tags of scalars
        self.shown: set[str] = set()  # those that the layout knows
        self.pending: tuple[int, ValidationRows, Mapping[str, str]] | None = None  # a pass without its pictures
        self.drawn, self.took = time.perf_counter(), 0.0
        self.draws = True  # until a picture fails

    def scalars(self, found: Mapping[str, float], step: int) -> None:
        for writer, start in self.runs:
            for name, value in found.items():
                writer.add_scalar(name, value, start + step)
        self.written |= found.keys()

    @property
    def laid_out(self) -> bool:
        """Whether the layout knows every scalar written here."""
        return self.written <= self.shown

    def lay_out(self, others: Collection[str]) -> None:
        """Write the layout anew where there are new scalars, Lightning's own among them; TensorBoard takes the last."""
        tags = self.written.union(self.known, others)
        if not tags <= self.shown:
            self.shown |= tags
            for writer, _ in self.runs:
                writer.add_custom_scalars(layout(self.shown, self.before))

    def examples(self, texts: Mapping[str, str], resumed: bool) -> None:
        """Show training examples; a run that is gone on with shows them already."""
        for (writer, start), folder in zip(self.runs, self.folders, strict=True):
            if not (resumed and _goes_on(folder)):
                for name, text in texts.items():
                    writer.add_text(name, text, start)

    def settings(self, settings: Mapping[str, hparams.Value], metrics: Sequence[str]) -> None:
        for writer, _ in self.runs:
            hparams.begin(writer, settings, metrics)

    def succeeded(self) -> None:
        for writer, _ in self.runs:
            hparams.end(writer)

    def held_out(self, rows: ValidationRows, categories: Mapping[str, str], step: int) -> None:
        """Show a validation pass."""
        found = {f"judge/{name}": value for name, value in numbers(rows).items()}
        of_kinds = by_category(rows, categories)
        for name, tag in tags(of_kinds).items():
            found |= {f"{CATEGORY}{end}/{tag}": value for end, value in zip(ENDS, of_kinds[name], strict=False)}
        self.scalars(found, step)
        better_is_a, p_a = rows.right
        for writer, start in self.runs:
            writer.add_histogram("margins/verdict_log_odds", rows.margins, start + step)
            for name, values in rows.spread.items():
                if len(values):
                    writer.add_histogram(f"margins/{name}", values, start + step)
            if better_is_a.any():
                writer.add_pr_curve("judge/A_is_the_better_response", better_is_a, p_a, start + step)
        if self.draws and len(p_a) >= _FEWEST:
            self.pending = step, rows, categories
            # After a wait in proportion to what the last one took: frequent validation does not make pictures dear.
            if time.perf_counter() - self.drawn >= self.took / _SHARE:
                self.draw()

    def draw(self) -> None:
        """Draw the last pass, if it is not drawn."""
        if self.pending is None:
            return
        (step, rows, categories), self.pending = self.pending, None
        of = f"{len(set(rows.pairs))} held-out pairs at step {step}"
        try:
            # It imports matplotlib, whose time is no part of what the pictures take.
            from genrm_lightning.dashboards.figure import pictures

            began = time.perf_counter()
            drawn = pictures(rows, by_category(rows, categories), of)
        except Exception as error:  # a broken installation or a bug of ours: no fit should die of a picture
            if is_full(error):
                raise
            self.draws = False
            why = visible(" ".join(f"{type(error).__name__}: {error}".split()))[:_WHY]
            warnings.warn(f"the dashboard goes on without pictures, drawing one failed: {why}", stacklevel=2)
            return
        for name, image in drawn.items():
            for writer, start in self.runs:
                writer.add_image(f"judge/{name}", image, start + step, dataformats="HWC")
        self.drawn = time.perf_counter()
        self.took = self.drawn - began


def _goes_on(folder: Path) -> bool:
    """Whether another fit's events stand in the run beside this one's own."""
    return len(event_files(folder)) > 1


def tags(names: Iterable[str]) -> dict[str, str]:
    """Categories' names as ends of tags, each its own: one group of TensorBoard's, whatever the data call them.

    >>> tags(["maths/hard ", "chat"])
    {'maths/hard ': 'maths_hard', 'chat': 'chat'}
    >>> tags(["a/b", "a_b"])
    {'a/b': 'a_b 7845b1', 'a_b': 'a_b 7a8519'}
    """
    plain = {name: _plain(name) for name in names}
    times = Counter(plain.values())
    return {
        name: end if times[end] == 1 else f"{end[: _NAME - 7]} {hash64('category', name) % 16**6:06x}"
        for name, end in plain.items()
    }


def _plain(name: str) -> str:
    return re.sub(r"[^\w.() -]", "_", visible(" ".join(name.split())))[:_NAME] or "_"
