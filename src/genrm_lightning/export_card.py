"""The model card of an exported judge: how it is loaded, what it was made from, how it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_tools.ancestry import Node, trace
from data_tools.artifact import MANIFEST, digest_of, read_json
from data_tools.errors import UserError
from data_tools.judging import prompt_named
from genrm_lightning.evaluation.card import card
from genrm_lightning.evaluation.folder import SCORES, read_evaluation
from genrm_lightning.evaluation.markdown import code, table
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.judges.base import contents
from genrm_lightning.star.stage import identity

_SCORER = """\
```python
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)
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
model = AutoModelForCausalLM.from_pretrained(folder)
```"""


def prompt_facts(name: str) -> dict[str, Any]:
    """A judge prompt's words, and their digest, for ``genrm.json``."""
    words = asdict(prompt_named(name))
    return {"judge_prompt_words": words, "judge_prompt_hash": digest_of(words)}


def export_card(judge: str, scores: int, evaluation: str | Path | None, license: str | None) -> str:
    """The card's Markdown.

    Args:
        judge: a judge folder, or any model that is a backbone.
        scores: outputs of its reward head; 0: it writes.
        evaluation: output of ``evaluate``.
        license: as the hub spells it.

    Raises:
        UserError: the evaluation is of another judge, or none.
    """
    info = judge_info(judge)
    numbers, said = ({}, {}) if evaluation is None else _evaluation(judge, Path(evaluation))
    head = {"library_name": "transformers", "pipeline_tag": "text-classification" if scores else "text-generation"}
    head |= {"license": license} if license else {}
    objective = info.get("objective")
    title = f"# {'Reward model' if scores else 'Judge'}{f' trained with {objective}' if objective else ''}"
    use = ["## Use", "", *(_SCORER if scores else _WRITER).splitlines()]
    return card(numbers, said, head, title, [use, _made(judge, info)])


def _evaluation(judge: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    said = read_evaluation(folder)
    for one in said["sets"]:
        of = read_json(folder / one["folder"] / MANIFEST)["key"].get("judge")
        if of != contents(identity(judge)):
            raise UserError(f"--evaluation: {folder}: is of another judge ('{said['judge']}'); name one of '{judge}'")
    return read_json(folder / SCORES), said


def _made(judge: str, info: dict[str, Any]) -> list[str]:
    """What it was made from: base, template, and the files that its training table goes back to."""
    facts = [("base", _named(info.get("base"))), ("chat template, digest", info.get("template_hash"))]
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
    return Path(base).name if base and Path(base).is_absolute() else base


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
