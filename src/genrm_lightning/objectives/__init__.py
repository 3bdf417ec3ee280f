"""One file an objective: how a row becomes a tree, and the few lines of loss on top of the forward."""

from genrm_lightning.objectives.base import Objective, OptimizerSettings
from genrm_lightning.objectives.bradley_terry import BradleyTerry
from genrm_lightning.objectives.dpo import RationaleDPO
from genrm_lightning.objectives.genrm import GenRM, STaRSFT
from genrm_lightning.objectives.ipo_rationalizer import IPORationalizer
from genrm_lightning.objectives.on_policy import OnPolicyRationalizer
from genrm_lightning.objectives.pairrm import PairRM
from genrm_lightning.objectives.rationalizer import Rationalizer

__all__ = [
    "BradleyTerry",
    "GenRM",
    "IPORationalizer",
    "Objective",
    "OnPolicyRationalizer",
    "OptimizerSettings",
    "PairRM",
    "RationaleDPO",
    "Rationalizer",
    "STaRSFT",
]
