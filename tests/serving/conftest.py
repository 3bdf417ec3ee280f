"""What the servers' tests share; judges are made once."""

import pytest
import torch

from genrm_lightning import objectives
from genrm_lightning.backbone import BackboneSettings
from tests.serving.forking import COT_FLAGS, KINDS, Forks


@pytest.fixture(scope="session")
def place(tmp_path_factory, tiny_llama):
    """What forks servers, and the judges: the one is started while the others are made."""
    folder = tmp_path_factory.mktemp("serving")
    forks = Forks(folder)
    for kind, objective in KINDS.items():
        torch.manual_seed(2)
        options = {} if kind == "reward" else {"judge_prompt": "brief"}
        made = getattr(objectives, objective)(backbone=BackboneSettings(str(tiny_llama), lora=None), **options)
        made.configure_model()
        made.save(folder / kind)
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def servers(place):
    return {kind: place.serve(place.folder / kind, *(COT_FLAGS if kind == "cot" else ())) for kind in KINDS}
