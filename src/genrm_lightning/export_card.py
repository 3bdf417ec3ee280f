"""The model card of an exported judge: how it is loaded, what it was made from, how it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from data_tools.ancestry import Node, trace
from data_tools.artifact import MANIFEST, digest_of, read_json
from data_tools.errors import UserError
from data_tools.judging import prompt_named, render_pair
from genrm_lightning.evaluation.card import card
from genrm_lightning.evaluation.folder import SCORES, read_evaluation
from genrm_lightning.evaluation.markdown import code, table
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.judges.base import contents
from genrm_lightning.star.stage import identity

_SCORER = """\
```python
tokenizer = AutoTokenizer.from_pretrained(folder)
__MODEL__
chats = [prompt + [{"role": "assistant", "content": response}] for response in responses]
batch = tokenizer.apply_chat_template(  # control tokens inside texts stay text
    chats, padding=True, return_tensors="pt", return_dict=True, sanitize_control_tokens=True
)
rewards = model(**batch).logits
```"""
_WRITER = """\
The judge prompt stands in `genrm.json`: `judge_prompt_words` are its system turn and the question behind the pair. The
judge ends with `Verdict: [[A]]` or `Verdict: [[B]]`; ask for both orders of a pair.

```python
tokenizer = AutoTokenizer.from_pretrained(folder)
__MODEL__
```"""
_PAIRS = f"""\
It compares. The response it is given is both in their frames, as below; its two logits are of A and of B. Take the mean
over both orders of a pair.

```
{render_pair("…", "…")}
```

"""
_MERGED = "model = AutoModelFor__CLASS__.from_pretrained(folder)"
_ADAPTER = """\
model = AutoPeftModelFor__CLASS__.from_pretrained(folder, dtype="float32")  # the base, and this adapter on it"""
_SCORING_ADAPTER = """\
model = AutoPeftModelForSequenceClassification.from_pretrained(  # the base, and on it this adapter with its head
    folder, num_labels=__SCORES__, pad_token_id=tokenizer.pad_token_id, dtype="float32"
)"""
_ELSEWHERE = (
    "`adapter_config.json` names the base by a folder of the machine that this was exported on. Elsewhere load the "
    "base from where it lies__HOW__, and this adapter on it with `PeftModel.from_pretrained(base, folder)`."
)


def prompt_facts(name: str) -> dict[str, Any]:
    """A judge prompt's words, and their digest, for ``genrm.json``."""
    words = asdict(prompt_named(name))
    return {"judge_prompt_words": words, "judge_prompt_hash": digest_of(words)}


def export_card(
    judge: str,
    scores: int,
    evaluation: str | Path | None,
    license: str | None,
    *,
    base: str | None = None,
    adapter: bool = False,
) -> str:
    """The card's Markdown.

    Args:
        judge: a judge folder, or any model that is a backbone.
        scores: outputs of its reward head; 0: it writes.
        evaluation: output of ``evaluate``.
        license: as the hub spells it.
        base: the name under which others find what it was trained from; None: as the judge folder does.
        adapter: whether the card is of the adapter alone.

    Raises:
        UserError: the evaluation is of another judge, or none.
    """
    info = judge_info(judge)
    numbers, said = ({}, {}) if evaluation is None else _evaluation(judge, Path(evaluation))
    base = base or info.get("base")
    head = {"library_name": "peft" if adapter else "transformers"}
    head |= {"pipeline_tag": "text-classification" if scores else "text-generation"}
    head |= {"base_model": base} if base and _on_the_hub(base) else {}
    head |= {"license": license} if license else {}
    objective = info.get("objective")
    title = f"# {'Reward model' if scores else 'Judge'}{f' trained with {objective}' if objective else ''}"
    use = ["## Use", "", *_use(scores, adapter).splitlines()]
    if adapter and resolves_here_alone(base):
        use += ["", _ELSEWHERE.replace("__HOW__", " (`num_labels` and `pad_token_id` as above)" if scores else "")]
    return card(numbers, said, head, title, [use, _made(judge, info, base)])


def resolves_here_alone(base: str) -> bool:
    """Whether a base's name is one that this machine alone can read: a path, or the embedded backbone."""
    return base == "embedded" or Path(base).is_absolute() or base.startswith((".", "~")) or Path(base).is_dir()


def check_base(base: str) -> None:
    """Raises UserError for a name that is neither a folder's nor can be a hub id."""
    if not Path(base).is_dir() and not _on_the_hub(base):
        raise UserError(f"--base: '{base}' is no folder and can be no hub id (OWNER/NAME); name the model's")


def _on_the_hub(base: str) -> bool:
    """Whether a base's name can be a hub id; the hub wants no other in a card's head."""
    try:
        validate_repo_id(base)
    except HFValidationError:
        return False
    return not resolves_here_alone(base)


def _use(scores: int, adapter: bool) -> str:
    kind = "SequenceClassification" if scores else "CausalLM"
    model = (_SCORING_ADAPTER if scores else _ADAPTER) if adapter else _MERGED
    model = model.replace("__CLASS__", kind).replace("__SCORES__", str(scores))
    return (_PAIRS if scores == 2 else "") + (_SCORER if scores else _WRITER).replace("__MODEL__", model)


def _evaluation(judge: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    said = read_evaluation(folder)
    for one in said["sets"]:
        of = read_json(folder / one["folder"] / MANIFEST)["key"].get("judge")
        if of != contents(identity(judge)):
            raise UserError(f"--evaluation: {folder}: is of another judge ('{said['judge']}'); name one of '{judge}'")
    return read_json(folder / SCORES), said


def _made(judge: str, info: dict[str, Any], base: str | None) -> list[str]:
    """What it was made from: base, template, and the files that its training table goes back to."""
    facts = [("base", _named(base)), ("chat template, digest", info.get("template_hash"))]
    facts += [("judge prompt", info.get("judge_prompt") if "Bradley" not in str(info.get("objective")) else None)]
    rows = [(name, code(value)) for name, value in facts if value]
    train = _training_table(Path(judge))
    if train is not None:
        rows.append(("training table", code(train.name)))
        rows += [
            ("from the file", f"{code(leaf.name)}, digest {code(leaf.digest or '?')}") for leaf in _leaves(trace(train))
        ]
    return ["## Made from", "", *table(("", ""), rows)] if rows else []


def _named(base: str | None) -> str | None:
    """A hub id as it is; of a folder its end alone: where it lay is nobody's business."""
    return Path(base).name if base and resolves_here_alone(base) else base


def _training_table(judge: Path) -> Path | None:
    """The table that a judge's fit read, where its config stands beside it and the table is still there."""
    config = judge.parent / "config.yaml"
    if not config.is_file():
        return None
    try:
        said = yaml.safe_load(config.read_text())
        train = Path(said["data"]["init_args"]["train"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return train if train.is_file() else None


def _leaves(node: Node) -> Iterator[Node]:
    """The files at the end of the way back, each once."""
    seen: set[str] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        stack += reversed(one.inputs)
        if not one.inputs and one.digest not in seen and not one.again:
            seen.add(one.digest)
            yield one
