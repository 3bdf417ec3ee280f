"""What a STaR run's samples may train: a line a variant."""

from __future__ import annotations

from typing import NamedTuple

from data_tools.told import Told


class Variant(NamedTuple):
    """A variant of STaR.

    Attributes:
        objective: of data_tools.star, by which samples become examples.
        fit: class of the fit.
        told: the answers that the sampler is told, a table of samples each; empty: it is told nothing.
    """

    objective: str
    fit: str
    told: tuple[Told, ...] = ()


VARIANTS = {
    "star-sft": Variant("sft", "genrm_lightning.objectives.STaRSFT"),
    "star-dpo": Variant("dpo", "genrm_lightning.objectives.RationaleDPO"),
    "star-rationalizer": Variant("rationalizer", "genrm_lightning.objectives.Rationalizer", ("right",)),
    "star-rationalizer-kl": Variant("own", "genrm_lightning.objectives.OnPolicyRationalizer"),
    "star-ipo-rationalizer": Variant("dpo", "genrm_lightning.objectives.IPORationalizer", ("right", "wrong")),
}
