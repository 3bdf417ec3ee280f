"""TRL's side: our trees as rows of its trainers, so that both sides train on the same token ids.

Settings of TRL 1.16 on a CPU, taken (+) or not (-), with numbers where both ways were run:

+ ``bf16``: autocast over float32 weights, as ours.
+ ``train_sampling_strategy: group_by_length``: little padding. The trainers of pairs need a ``length`` column for it.
+ ``optim: adamw_torch_fused``: transformers' default, one pass over the weights.
+ ``precompute_ref_log_probs``: no reference forward in the training step; done before the clock starts.
+ completion-only loss: prompt tokens have the label -100.
+ the fused head (``add_fused_lm_head``), which SFTTrainer and DPOTrainer always use: the logits exist in tiles only.
  It scores labelled positions alone on devices with Triton, and *every* position elsewhere; no setting changes that.
  (Its own branch for Triton, forced onto the CPU, took 30 % less time a step of SFT at 4 x 360 tokens, 23 % less at
  2 x 1,130: so much of the ratios here is the head, and so much a TRL that did this would win back.)
- ``activation_checkpointing``: TRL's default; by its documentation some 20 % slower. Off on both sides.
- ``padding_free`` and ``packing`` (SFTTrainer): meant for flash attention. They run under sdpa, with the same loss, but
  the batch becomes one row with a dense mask, whose scores grow with the square of all its tokens: 5 % less time a
  step at 4 x 360 tokens, 28 % more at 2 x 1,130. Rows sorted by length have little padding to lose. DPOTrainer takes
  neither ("temporarily unavailable"), RewardTrainer knows neither.
- ``use_logits_to_keep``: gone from DPOTrainer with the fused head.
- Liger and Hub kernels: Triton or CUDA.
- ``torch_compile``: no documented setting of these trainers, and every batch has a length of its own.

``python -m benchmarks --trl KEY=VALUE`` sets any of them otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase, Trainer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from genrm_lightning.backbone import LoraSettings
from genrm_lightning.prefix import TOKENS, Role, Tree

IGNORED = -100  # the label of a token that no loss looks at


class DPOTrainerOfIds(DPOTrainer):
    """DPOTrainer on rows that hold token ids, and the reference's log-probabilities where somebody has them.

    Unlike TRL's other trainers it would tokenise and score them again.
    """

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *arguments: Any) -> Dataset:
        return (
            dataset
            if "ref_chosen_logps" in dataset.column_names
            else super()._precompute_ref_logps(dataset, *arguments)
        )


def pair_row(tree: Tree) -> dict[str, Any]:
    """A Bradley-Terry tree (preferred branch first) as a row of RewardTrainer."""
    chosen, rejected = (tree.prefix + branch.ids for branch in tree.branches)
    margin = {"margin": tree.extras["margin"][0]} if "margin" in tree.extras else {}
    return {"chosen_ids": chosen, "rejected_ids": rejected, "length": max(len(chosen), len(rejected)), **margin}


def sft_row(tree: Tree, roles: Sequence[Role] = TOKENS) -> dict[str, Any]:
    """A tree's first branch as a row of SFTTrainer, with labels where the branch has these roles."""
    branch = tree.branches[0]
    labels = [token if role in roles else IGNORED for token, role in zip(branch.ids, branch.roles, strict=True)]
    return {"input_ids": tree.prefix + branch.ids, "labels": [IGNORED] * len(tree.prefix) + labels}


def couple_row(tree: Tree) -> dict[str, Any]:
    """A STaR-DPO tree (right judgment first) as a row of DPOTrainer."""
    chosen, rejected = (branch.ids for branch in tree.branches)
    length = len(tree.prefix) + max(len(chosen), len(rejected))
    return {"prompt_ids": tree.prefix, "chosen_ids": chosen, "rejected_ids": rejected, "length": length}


# What the list above takes; the rest of a run's settings are the same on both sides.
BEST = {
    "bf16": True,
    "train_sampling_strategy": "group_by_length",
    "remove_unused_columns": False,  # else the length is gone before the sampler asks for it
    "optim": "adamw_torch_fused",
}

TRAINERS = {
    "reward": (RewardTrainer, RewardConfig),
    "sft": (SFTTrainer, SFTConfig),
    "dpo": (DPOTrainerOfIds, DPOConfig),
}


def make_trainer(
    kind: str,
    backbone: str,
    rows: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    lora: LoraSettings | None = None,
    dtype: str = "float32",
    **settings: Any,
) -> Trainer:
    """A TRL trainer on a CPU, quiet and without files of its own.

    Args:
        kind: key of TRAINERS.
        lora: adapters; None trains every weight.
        dtype: of the weights in memory. Adapters are float32 all the same; the reward head is of this type.
        settings: of the trainer's config.
    """
    cls, config = TRAINERS[kind]
    plain = {
        "use_cpu": True, "max_length": None, "model_init_kwargs": {"dtype": dtype}, "activation_checkpointing": False,
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    arguments = config(str(folder), **{**plain, **settings})
    adapters = None
    if lora is not None:
        adapters = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets,
            task_type="SEQ_CLS" if kind == "reward" else "CAUSAL_LM",
            modules_to_save=["score"] if kind == "reward" else None,
        )  # fmt: skip
    return cls(
        backbone, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=adapters,
    )  # fmt: skip
