"""torchmetrics of judges: a pure function of tensors, and a thin class that holds the state, a file a question.

Margins are a score of the preferred response minus that of the other one (log-probabilities, rewards); a margin of 0
chooses nothing. NaN is refused by every ``update``. A metric that saw no rows is NaN. Uneven batches, split updates and
several processes, one without rows among them, give exactly what one update of all rows gives.

What a plain weighted mean does, torchmetrics' own ``MeanMetric(nan_strategy="error")`` does; it is not repeated here.
"""

from genrm_lightning.metrics.accuracy import PairwiseAccuracy, preference_hits
from genrm_lightning.metrics.calibration import Brier, CalibrationBins, CalibrationError, brier, calibration_bins
from genrm_lightning.metrics.position import BothOrders, PositionBias, PositionConsistency, consistent, leaning
from genrm_lightning.metrics.selective import RiskCoverage, SelectiveRisk
from genrm_lightning.metrics.votes import InvalidRate, VoteCurve, invalid_share, majority_curve

__all__ = [
    "BothOrders",
    "Brier",
    "CalibrationBins",
    "CalibrationError",
    "InvalidRate",
    "PairwiseAccuracy",
    "PositionBias",
    "PositionConsistency",
    "RiskCoverage",
    "SelectiveRisk",
    "VoteCurve",
    "brier",
    "calibration_bins",
    "consistent",
    "invalid_share",
    "leaning",
    "majority_curve",
    "preference_hits",
]
