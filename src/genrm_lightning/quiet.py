"""Third-party chatter that tells a user nothing, item by item. Whatever is not named here stays audible."""

from __future__ import annotations

import logging
import os
import threading
import warnings

from data_tools.errors import is_full

# Beginnings of messages (regular expressions).
_HARMLESS = (
    r"LightningCLI's args parameter is intended",  # ours are sys.argv's, passed on
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # lightning on torch 2.13
    r"Total length of `list` across ranks is zero",  # a fit without a validation part
    r"The '\w+' does not have many workers",  # batches are made in microseconds from trees in memory
    r"The number of training batches .* is smaller than the logging interval",
    r"Checkpoint directory .* exists and is not empty",  # a resumed fit
    r"Experiment logs directory .* exists and is not empty",
    r"Be aware that when using `ckpt_path`, callbacks",  # validate and predict need no checkpoint callback
    r"Couldn't infer the batch indices fetched",  # predictions carry pair ids
    r"`is_gradient_checkpointing` is deprecated",
    r".*GPU available but not used",
)


def no_chatter() -> None:
    """Harmless warnings are shown to nobody."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message)


def quiet() -> None:
    """To be called after Lightning is imported: it sets its own log level then."""
    # Tips, seeds and "GPU available: False" are of level INFO.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    no_chatter()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else tokenizers warn when a process forks


def quiet_threads() -> None:
    """A thread that dies of a full disk (TensorBoard's writer) prints no traceback: its owner tells in a line."""
    tell = threading.excepthook

    def others(died: threading.ExceptHookArgs) -> None:
        if died.exc_value is None or not is_full(died.exc_value):
            tell(died)

    if getattr(tell, "__qualname__", "") != others.__qualname__:  # once a process
        threading.excepthook = others


def no_loading_bars() -> None:
    """No bar for loading and writing weights, which takes a second; downloads keep theirs."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    disabled = are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    if not disabled:
        enable_progress_bars()
