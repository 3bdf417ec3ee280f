"""A judge's adapter alone, as a plain PEFT folder: a hundredth of the merged model, beside a base that others have.

How it is loaded, with nothing of this package::

    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoPeftModelForSequenceClassification.from_pretrained(  # of a judge that writes: AutoPeftModelForCausalLM
        out, num_labels=1, pad_token_id=tokenizer.pad_token_id, dtype="float32"
    )

The reward head lies in the adapter as a module to save (peft's ``modules_to_save``), so it is never a random one. What
a folder of an adapter has no place for, the caller says: how many labels, and the pad id, which the base's own config
may give as the end token. Then ``model`` is called as that of :mod:`~genrm_lightning.export`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from data_tools.artifact import atomic_folder
from data_tools.errors import UserError
from genrm_lightning.backbone import ADAPTER_FILE, ADAPTER_HEAD, resolve, reward_head, scores_of
from genrm_lightning.export import export_text, template_of, write_beside
from genrm_lightning.export_card import resolves_here_alone
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.pretrained import config_of, first_line

if TYPE_CHECKING:
    from peft import LoraConfig


def export_adapter(
    judge: str,
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    base: str | None = None,
    evaluation: str | Path | None = None,
    license: str | None = None,
) -> LoraConfig:
    """Write the adapter of a judge folder into one folder: PEFT's two files, safetensors, tokenizer, card.

    No weights of the base are read: only its config, which says whether the adapter fits what others will load.

    Args:
        judge: a judge folder that was trained with LoRA.
        out: the folder to write; it appears whole.
        dtype: of the adapter's weights. They were trained in float32.
        base: the name under which others find the base, a hub id or a folder; None: as this machine knows it.
        evaluation, license: as :func:`~genrm_lightning.export.export_judge`.

    Returns:
        The adapter's config as it was written.

    Raises:
        UserError: the judge has no adapter, or the adapter does not fit the base; as
            :func:`~genrm_lightning.export.export_judge`.
    """
    info = judge_info(resolve(judge))
    if not info.get("adapter"):
        raise UserError(
            f"--adapter: '{judge}' was not trained with LoRA, it has no adapter of its own; leave the flag out"
        )
    text = export_text(judge, out, evaluation, license, base, adapter=True)
    scores = scores_of(judge)
    renderer, template = template_of(judge, scores)
    config, tensors = _adapter(judge, scores)
    trained_on = _shapes(judge, resolve(info["base"]), config, tensors, scores)
    if base is not None and Path(base).is_dir():
        base = str(Path(base).resolve())  # the adapter is read from anywhere
        named = _shapes(judge, base, config, tensors, scores)
        if other := [n for n in sorted(named.keys() | trained_on) if named.get(n) != trained_on.get(n)]:
            raise UserError(
                f"--base: '{base}' has not the shapes of the model that '{judge}' was trained on ({other[0]} differs); "
                "name that one"
            )
    config.base_model_name_or_path = base or resolve(info["base"])
    with atomic_folder(out) as temporary:
        config.save_pretrained(temporary)
        kept = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
        save_file(kept, temporary / ADAPTER_FILE, {"format": "pt"})
        write_beside(temporary, judge, renderer, template, text, adapter=True, base=base or info["base"])
    return config


def base_notice(config: LoraConfig, judge: str) -> str | None:
    """What is to be said of a base that nobody but this machine finds; None: others find it."""
    base = config.base_model_name_or_path
    own = judge_info(resolve(judge))["base"] == "embedded"
    why = " (its weights come from a 4-bit file; the hub's SmolLM2 has others)" if own else ""
    if not resolves_here_alone(base):
        return f"base: {base}; the adapter was trained on the embedded backbone{why}" if own else None
    return f"base: {base}, a folder of this machine{why}; for others publish it, and name it with --base"


def _adapter(judge: str, scores: int) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The adapter's config and tensors, a reward model's head among them."""
    from peft import PeftConfig

    folder = Path(resolve(judge))
    try:
        config, tensors = PeftConfig.from_pretrained(str(folder)), load_file(folder / ADAPTER_FILE)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(
            f"--judge: the adapter in '{judge}' cannot be read ({first_line(error)}); restore it as it was saved"
        ) from None
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
    if scores:
        head = reward_head(str(folder))
        assert head is not None  # scores_of has seen it
        config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
        tensors[ADAPTER_HEAD] = head
    return config, tensors


def _shapes(
    judge: str, base: str, config: LoraConfig, tensors: dict[str, Tensor], scores: int
) -> dict[str, torch.Size]:
    """Of every parameter of the model that plain peft would make, which has a place for each tensor and no more.

    Raises:
        UserError: it has not: the adapter is of another model, or the family's classifier is built otherwise.
    """
    from peft import get_peft_model, get_peft_model_state_dict

    known, config = copy.deepcopy(config_of(base)), copy.deepcopy(config)
    config.base_model_name_or_path = None  # peft would warn that it becomes another one
    if scores:
        known.num_labels = scores
    cls = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = get_peft_model(cls.from_config(known, trust_remote_code=False), config)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--adapter: that of '{judge}' does not fit '{base}' ({first_line(error)}); leave the flag out"
        ) from None
    places = {n: t.shape for n, t in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    if wrong := [n for n in sorted(places.keys() | tensors) if places.get(n) != getattr(tensors.get(n), "shape", None)]:
        raise UserError(f"--adapter: that of '{judge}' does not fit '{base}' ({wrong[0]}); leave the flag out")
    return {name: parameter.shape for name, parameter in model.named_parameters()}
