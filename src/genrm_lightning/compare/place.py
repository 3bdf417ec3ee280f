"""A method with one seed: its folder, its settings, and whether it is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.artifact import MANIFEST, is_complete, read_json
from genrm_lightning.budget import policy_key
from genrm_lightning.compare.digests import digests_of
from genrm_lightning.compare.settings import CompareSettings
from genrm_lightning.samplers.choice import SamplerSettings, VLLMSettings
from genrm_lightning.star.settings import StarSettings
from genrm_lightning.star.stage import Artifact


@dataclass(frozen=True, eq=False)
class Place:
    """Where a method of a comparison is worked on with one seed.

    Attributes:
        settings: of the comparison.
        name: the method.
        seed: 0, 1, ...; added to the settings' own.
        pairs: the data stage.
    """

    settings: CompareSettings
    name: str
    seed: int
    pairs: Artifact

    @property
    def folder(self) -> Path:
        return Path(self.settings.out) / f"seed-{self.settings.seed + self.seed}" / self.name

    @property
    def line(self) -> dict[str, Any]:
        """What the config says of the method."""
        return self.settings.methods[self.name]

    @property
    def kind(self) -> str:
        return self.line["kind"]

    @property
    def writes(self) -> bool:
        """Whether its judge writes rationales."""
        return self.kind == "star" or bool(self.line.get("rationale"))

    @cached_property
    def star(self) -> StarSettings:
        """The star settings of the method, or those that it shares with star methods."""
        return self.settings.star_settings(self.name, self.seed, self.folder)

    @property
    def key(self) -> dict[str, Any]:
        """Everything the method's numbers depend on, as JSON gives it back."""
        return self._named | self._digests

    @cached_property
    def _digests(self) -> dict[str, str]:
        """What the files hold that the settings name."""
        return digests_of(Path(self.settings.out), self.star, self.kind == "star")

    @cached_property
    def _named(self) -> dict[str, Any]:
        """The key without digests of files."""
        star = self.star
        key: dict[str, Any] = {"kind": self.kind, "data": self.pairs.digest}
        if self.kind == "star":
            key |= {name: value for name, value in asdict(star).items() if name not in ("run", "data")}
            for sampling in (key["sampling"], key["evaluation"]):
                del sampling["batch_tokens"]  # changes no sample
            # Nor do these a number of the table: memory of a sampler, its server's address, what is asked besides.
            engine = VLLMSettings(max_model_len=star.sampler.vllm.max_model_len)
            counting = SamplerSettings(star.sampler.kind, engine)
            key |= {"quality_pairs": StarSettings.quality_pairs, "sampler": asdict(counting)}
            if star.bootstrap is not None and star.bootstrap.sampler is not None:
                key["bootstrap"]["sampler"] = star.bootstrap.sampler.sampler_key()
        else:
            key |= {"backbone": star.backbone, "dtype": star.dtype, "judge_prompt": star.judge_prompt}
            key |= policy_key(star.too_long)
        if self.kind == "pairs":
            key |= {"objective": self.line["objective"], "fit": self.settings.fit_section(self.name)}
            key |= {"seed": star.seed, "parts": star.parts, "iterations": star.iterations}
            key |= {} if star.fresh else {"fresh": False}
        elif self.kind == "zero-shot" and self.writes:
            key |= star.sampler_key(star.evaluation)
        return json.loads(json.dumps(key))

    def finished(self) -> dict[str, Any] | None:
        """What the method took and where it judged, None where it is not done.

        A manifest of before holds no digests: the method is gone through again, whose stages hold them and do nothing
        anew.

        Raises:
            UserError: it was done with other settings, or other files.
        """
        manifest = self.folder / MANIFEST
        said = read_json(manifest) if manifest.exists() else None
        key = said.get("key") if isinstance(said, dict) else None
        if self._digests and isinstance(key, dict) and self._digests.keys().isdisjoint(key):
            is_complete(self.folder, self._named)
            return None
        return said["facts"] if is_complete(self.folder, self.key) else None


def places(settings: CompareSettings, pairs: Artifact) -> list[Place]:
    """Every method with every seed, seed by seed.

    A zero-shot verdict without a rationale draws nothing: it has one seed.
    """
    drawn = {name for name in settings.methods if Place(settings, name, 0, pairs).writes}
    drawn |= {name for name, line in settings.methods.items() if line["kind"] != "zero-shot"}
    return [
        Place(settings, name, seed, pairs)
        for seed in range(settings.seeds)
        for name in settings.methods
        if name in drawn or not seed
    ]
