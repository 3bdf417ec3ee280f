"""A tiny random Llama (byte-level tokenizer, ChatML template), tiny tables for it, and a quiet trainer."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_tools.judging import PROMPTS, Verdict, render_completion, render_prompt
from data_tools.order import responses
from data_tools.schema import EXAMPLE, PREFERENCE, conform
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.objectives import BradleyTerry, GenRM, PairRM, STaRSFT

END, PAD = "<|im_end|>", "<|endoftext|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The judge prompts come out short, everything else in a few bytes a token.
_SENTENCES = [
    *(text for prompt in PROMPTS.values() for text in (prompt.system, prompt.question, prompt.hint)),
    "[Conversation]\nName an animal.\n[End of Conversation]\n\n[Response A]\na red fox\n[End of Response A]\n\n"
    "[Response B]\nthe blue sky\n[End of Response B]",
    "Response A is shorter and on topic; response B is not.\nVerdict: [[A]]",
    "It names an animal, the other one does not.\nVerdict: [[B]]",
]


def tiny_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 800 tokens, <|endoftext|> 0, <|im_start|> 1, <|im_end|> 2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=[PAD, "<|im_start|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, extra_special_tokens=["<|im_start|>"]
    )
    fast.chat_template = template
    return fast


def make_tiny_llama(folder: Path, layers: int = 2, heads: int = 4) -> Path:
    """Write a random Llama (hidden 64, its heads two by two on a key, tied, float32) and its tokenizer; returns the
    folder."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=2048,
        initializer_range=0.1,  # wide enough for attention and predictions that are not flat
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_judges(folder: Path, backbone: Path) -> Path:
    """Write an untrained judge of each of some objectives into a folder of its name; returns ``folder``."""
    for kind in (BradleyTerry, PairRM, GenRM, STaRSFT):
        torch.manual_seed(1)
        prompt = {"judge_prompt": "brief"} if kind is STaRSFT else {}
        objective = kind(backbone=BackboneSettings(str(backbone), lora=None), **prompt)
        objective.configure_model()
        objective.save(folder / kind.__name__)
    return folder


def preferences(n: int, split: str = "train") -> pl.DataFrame:
    """PREFERENCE rows: the animal is the better answer."""
    rows = [
        {
            "pair_id": f"pair-{i}",
            "source": "test",
            "split": split,
            "prompt": [{"role": "user", "content": f"Name an animal. ({i})"}],
            "chosen": f"a red fox {i}",
            "rejected": f"the blue sky {i}",
        }
        for i in range(max(n, 1))
    ]
    return conform(pl.DataFrame(rows), PREFERENCE)[:n]


def examples(n: int) -> pl.DataFrame:
    """EXAMPLE rows on those pairs: a rationale with the right verdict against one with the wrong one."""
    rows = []
    for row in preferences(n).iter_rows(named=True):
        a, b, right = responses(row["pair_id"], False, row["chosen"], row["rejected"])
        wrong = Verdict.B if right == "A" else Verdict.A
        rows.append(
            {
                "pair_id": row["pair_id"],
                "swapped": False,
                "prompt": render_prompt(row["prompt"], a, b, "brief"),
                "completion": render_completion(f"It names an animal: {right}.", Verdict(right)),
                "rejected_completion": render_completion("The sky is nice.", wrong),
            }
        )
    return conform(pl.DataFrame(rows), EXAMPLE)


class Steps(L.Callback):
    """Remembers (pair ids, loss) of every training batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[str], float]] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.seen.append((batch.pair_ids, outputs["loss"].item()))

    @property
    def losses(self) -> list[float]:
        return [loss for _, loss in self.seen]


def make_trainer(folder: Path, *callbacks: L.Callback, **options) -> L.Trainer:
    """A quiet trainer on one CPU process."""
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    plain = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, "max_epochs": 1}
    return L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**quiet, **plain, **options})
