"""Hugging Face files -> a causal LM that this project's forward can run, with the reward head of a classifier."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from data_tools.errors import UserError
from genrm_lightning import attention

# Config keys by which some families change the logits behind the vocabulary head; this forward would miss it.
_LOGIT_KEYS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def load_lm(folder: str, dtype: torch.dtype, scores: int = 0) -> tuple[PreTrainedModel, Tensor | None]:
    """The causal LM of a hub id or folder; for a reward model also the head, (scores, H), of a classifier there.

    Nothing is ever initialised at random: a reward model's LM has no vocabulary head where its files have none.

    Args:
        scores: what the objective's reward head gives; 0: it has none.

    Raises:
        UserError: no such model, weights that are missing, or a model whose forward this project's would get wrong.
    """
    config = config_of(folder)
    classes = classes_of(config) if scores else 0
    if classes not in (0, scores):
        raise UserError(
            f"backbone.name: '{folder}' is a sequence classifier of {classes} labels, this objective's reward head has "
            f"{scores}; take one of {scores}, or a causal LM, which gets a new head"
        )
    try:
        with _unreported():
            model, found = (_classifier_class(config) if classes else AutoModelForCausalLM).from_pretrained(
                folder, dtype=dtype, attn_implementation=attention.NAME, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
        lm = _causal(model) if classes else model
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"backbone.name: no model in '{folder}' ({first_line(error)}); give a hub id or a HF folder"
        ) from None
    missing = set(found["missing_keys"])
    vocabulary = lm.get_output_embeddings()
    if scores and vocabulary is not None and missing == {n for n, p in lm.named_parameters() if p is vocabulary.weight}:
        lm.set_output_embeddings(vocabulary := None)
    elif missing:
        raise UserError(
            f"backbone.name: the files of '{folder}' hold no {min(missing)}; take a model that has every weight"
            + (", or the causal LM that this classifier was made from" if classes_of(config) and not classes else "")
        )
    unused = set(found["unexpected_keys"])
    score = getattr(model, "score", None)
    if classes and ("score.bias" in unused or getattr(score, "weight", None) is None or score.bias is not None):
        raise UserError(
            f"backbone.name: the reward head of '{folder}' is not one matrix without a bias; take a causal LM, "
            "which gets a new head"
        )
    if unused := unused - {"score.weight", "score.bias", "lm_head.weight"}:
        warnings.warn(
            f"'{folder}' holds {len(unused)} weights that are not used, {min(unused)} among them", stacklevel=2
        )
    _refuse_unlike_llama(lm, folder)
    return lm, score.weight.detach() if classes else None


def empty_lm(folder: str, dtype: torch.dtype, scores: int = 0) -> PreTrainedModel:
    """The causal LM of :func:`load_lm` without its weights, made on torch's current device; needs the config alone.

    Whether a reward model's LM has a vocabulary head is read from the weights' files where they are on this machine
    (their index alone); of a hub's model that is not, the config has to do.

    Raises:
        UserError: no config of a causal LM, or of one whose forward this project's would get wrong.
    """
    config = config_of(folder)
    try:
        lm = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention.NAME, trust_remote_code=False
        )
    except ValueError as error:
        raise UserError(f"backbone.name: '{folder}' is no causal LM ({first_line(error)})") from None
    if scores and not config.tie_word_embeddings and (classes_of(config) or _lacks_vocabulary(lm, folder)):
        lm.set_output_embeddings(None)
    _refuse_unlike_llama(lm, folder)
    return lm


def _lacks_vocabulary(lm: PreTrainedModel, folder: str) -> bool:
    """Whether the files hold no vocabulary head: those of a judge do not that was made from an untied classifier."""
    head = lm.get_output_embeddings().weight
    stored = _stored(folder)
    return stored is not None and not any(name in stored for name, p in lm.named_parameters() if p is head)


def _stored(folder: str) -> set[str] | None:
    """Names of the tensors in a model's files; None where no file is on this machine, or none that can be read."""
    for file in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):  # the order in which transformers looks
        path = cached_file(folder, file, local_files_only=True, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            try:
                if file == SAFE_WEIGHTS_INDEX_NAME:
                    return set(json.loads(Path(path).read_text())["weight_map"])
                with safe_open(path, "pt") as tensors:
                    return set(tensors.keys())
            except (OSError, ValueError, KeyError, SafetensorError):
                return None  # load_lm will say what is wrong with it
    return None


def _refuse_unlike_llama(lm: PreTrainedModel, folder: str) -> None:
    if _slides(lm.config):
        raise UserError(
            f"backbone.name: '{folder}' uses sliding-window attention; take a Llama-like model with full attention"
        )
    changed = [key for key in _LOGIT_KEYS if getattr(lm.config, key, None) not in (None, 1, 1.0)]
    if changed or getattr(lm.get_output_embeddings(), "bias", None) is not None:
        raise UserError(
            f"backbone.name: the vocabulary head of '{folder}' is not a plain matrix ({', '.join(changed) or 'bias'}); "
            "take a Llama-like model"
        )


@contextmanager
def _unreported() -> Iterator[None]:
    """Without transformers' table of missing and unused weights: :func:`load_lm` says in one line what is wrong."""

    def other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def config_of(folder: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"backbone.name: no model in '{folder}' ({first_line(error)}); give a hub id or a HF folder"
        ) from None


def classes_of(config: PreTrainedConfig) -> int:
    """How many labels a sequence classifier has; 0 for any other model."""
    return config.num_labels if any("ForSequenceClassification" in a for a in config.architectures or ()) else 0


def _classifier_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The family's sequence classifier, its head kept in float32 whatever the dtype of the rest."""
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ValueError(f"transformers has no sequence classifier of kind {config.model_type}")
    known = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    exact = {*(known._keep_in_fp32_modules_strict or ()), "score"}
    return type(known.__name__, (known,), {"_keep_in_fp32_modules_strict": exact})


def _causal(classifier: PreTrainedModel) -> PreTrainedModel:
    """A sequence classifier's decoder as a causal LM: with the tied vocabulary head, or without any."""
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(classifier.config)
    setattr(lm, lm.base_model_prefix, classifier.base_model)
    lm.config = classifier.config
    if classifier.config.tie_word_embeddings:
        lm.tie_weights()
    else:
        lm.set_output_embeddings(None)
    return lm.eval()


def _slides(config: PreTrainedConfig) -> bool:
    """Whether a layer looks back less far than the context; the tree mask knows no window.

    A family without ``layer_types`` (Mistral) slides in every layer.
    """
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "use_sliding_window", None) is False:
        return False
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return False
    return window < (getattr(config, "max_position_embeddings", None) or float("inf"))


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
