"""A judge as a plain Hugging Face folder that needs nothing of this package.

A reward model (Bradley-Terry, PairRM) becomes a sequence classifier whose logits are its raw scores, any other judge a
causal LM. How a reward model is called::

    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(out)
    conversations = [prompt + [{"role": "assistant", "content": response}] for response in responses]
    batch = tokenizer.apply_chat_template(conversations, padding=True, return_tensors="pt", return_dict=True)
    rewards = model(**batch).logits.squeeze(-1)

Most chat templates write something behind a turn's end token (ChatML a line break), while these heads were trained on
the end token. So the exported template ends a conversation whose last turn is the assistant's, without
``add_generation_prompt``, as the renderer does: content, end token, nothing more. Contents are stripped, and the clock
is stopped. What stands in a text as a control token is read as one, unless ``apply_chat_template`` is told
``sanitize_control_tokens=True``.

PairRM reads ``data_tools.judging.render_pair(y1, y2)`` as the response and gives two logits; the mean over both orders
is what it says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from data_tools.artifact import atomic_folder, write_json, write_text
from data_tools.errors import UserError
from genrm_lightning.backbone import HEAD_FILE, load_judge, load_renderer, resolve, scores_of
from genrm_lightning.export_card import check_base, export_card, prompt_facts
from genrm_lightning.judge_folder import JUDGE_FILE, REWARD_MODELS, judge_info
from genrm_lightning.policy import Policy
from genrm_lightning.rendering import DATE_STRING, Renderer

# Jinja around a model's template. Its blocks leave no white space behind in transformers' environment (trim_blocks).
_BEFORE = """\
{%- set date_string = __DATE__ -%}
{%- set turns = namespace(list=[]) -%}
{%- for message in messages -%}
{%- set turns.list = turns.list + [{'role': message['role'], 'content': message['content'] | trim}] -%}
{%- endfor -%}
{%- set scored = turns.list and turns.list[-1]['role'] == 'assistant' and not add_generation_prompt -%}
{%- set messages = turns.list[:-1] if scored else turns.list -%}
{%- set add_generation_prompt = add_generation_prompt or scored %}
"""
_AFTER = "{% if scored %}{{ turns.list[-1]['content'] + __END__ }}{% endif %}"
_PROBES = (
    [("system", "Be brief. "), ("user", "1 + 1?\n"), ("assistant", "2"), ("user", "So\n\n?"), ("assistant", " 3.\n")],
    [("user", "Name an animal."), ("assistant", "a fox")],
)  # fmt: skip


def export_judge(
    judge: str,
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    base: str | None = None,
    evaluation: str | Path | None = None,
    license: str | None = None,
) -> PreTrainedModel:
    """Write the model of a judge folder into one folder: adapters merged in float32, safetensors, tokenizer, card.

    ``genrm.json`` holds the judge prompt's words and their digest, so that whoever serves the folder can show it.

    Args:
        judge: a judge folder, or any model that is a backbone.
        out: the folder to write; it appears whole.
        dtype: of the weights.
        base: what the card calls the model it was trained from; None: as the judge folder does, of a folder its end.
        evaluation: output of ``evaluate`` of this judge, whose numbers go into the model card.
        license: that the card names; the base model's and the data's are for the user to find out.

    Returns:
        The model as it was written.

    Raises:
        UserError: ``out`` holds something already, the judge cannot be read, or a reward model's family has no
            sequence classifier or its tokenizer reads a whole conversation otherwise than its parts.
    """
    text = export_text(judge, out, evaluation, license, base)
    scores = scores_of(judge)
    renderer, template = template_of(judge, scores)
    policy = load_judge(judge, dtype, scores)
    model = _classifier(policy, judge).to(dtype) if scores else policy.lm
    model.config.pad_token_id = renderer.pad_id
    if not scores and model.generation_config is not None:
        model.generation_config.pad_token_id = renderer.pad_id
    with atomic_folder(out) as temporary:
        model.save_pretrained(temporary)
        write_beside(temporary, judge, renderer, template, text, adapter=False)
    return model


def export_text(
    judge: str,
    out: str | Path,
    evaluation: str | Path | None,
    license: str | None,
    base: str | None,
    adapter: bool = False,
) -> str:
    """The card of an export, made before the work: the mistakes in what it is told are then found first.

    Raises:
        UserError: ``out`` holds something already, ``base`` can be no model's name, or a reward model has lost its
            head; as :func:`~genrm_lightning.export_card.export_card`.
    """
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise UserError(f"--out: {out} holds something already; name a new folder")
    if base is not None:
        check_base(base)
    folder, scores = Path(resolve(judge)), scores_of(judge)
    if not scores and judge_info(folder).get("objective") in REWARD_MODELS:
        raise UserError(f"{folder / HEAD_FILE}: no such file; '{judge}' holds no reward model")
    return export_card(judge, scores, evaluation, license, base=base, adapter=adapter)


def template_of(judge: str, scores: int) -> tuple[Renderer, str]:
    """The judge's renderer, and the chat template that goes out with it.

    Raises:
        UserError: of a reward model, where plain transformers would read a conversation otherwise.
    """
    renderer = load_renderer(judge)
    if not scores:
        return renderer, renderer.template
    template = scoring_template(renderer)
    _check_rendering(renderer, template, judge)
    return renderer, template


def write_beside(folder: Path, judge: str, renderer: Renderer, template: str, text: str, **facts: Any) -> None:
    """What lies beside the weights of every export: tokenizer, template, ``genrm.json``, card."""
    info = judge_info(resolve(judge))
    facts |= {key: info[key] for key in ("objective", "judge_prompt") if key in info}
    if not scores_of(judge) and "judge_prompt" in info:
        facts |= prompt_facts(info["judge_prompt"])
    renderer.tokenizer.chat_template = template
    renderer.tokenizer.save_pretrained(folder)
    write_json(folder / JUDGE_FILE, {"template_hash": renderer.template_hash, **facts})
    write_text(folder / "README.md", text)


def scoring_template(renderer: Renderer) -> str:
    """The tokenizer's chat template such that a conversation with its response ends as :meth:`Renderer.response`."""
    before = _BEFORE.replace("__DATE__", json.dumps(DATE_STRING))
    after = _AFTER.replace("__END__", json.dumps(renderer.tokenizer.eos_token))
    template = renderer.template
    # Exported once before: another frame around the frame would take its variables away.
    return template if template.startswith(before) else before + template.removesuffix("\n") + after


def _check_rendering(renderer: Renderer, template: str, judge: str) -> None:
    """What plain transformers would feed the model is what this package trained it on.

    Raises:
        UserError: the tokenizer joins the template's frame and the contents (SentencePiece ones do).
    """
    for probe in _PROBES:
        messages = [{"role": role, "content": content} for role, content in probe]
        try:
            expected = renderer.prompt(messages[:-1]) + renderer.response(messages[-1]["content"])
        except UserError:  # a template without system turns
            continue
        if renderer.tokenizer.apply_chat_template(messages, chat_template=template, return_dict=False) != expected:
            raise UserError(
                f"--judge: the tokenizer of '{judge}' reads a conversation otherwise than the parts it was trained on, "
                "so a plain classifier would score other tokens; score with: python -m genrm_lightning predict"
            )


def _classifier(policy: Policy, judge: str) -> PreTrainedModel:
    """The family's sequence classifier around the policy's decoder, with its reward head."""
    config = policy.base.config
    config.num_labels = policy.head.out_features
    try:
        with torch.device("meta"):
            classifier = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        raise UserError(
            f"--judge: transformers has no sequence classifier for '{judge}' ({config.model_type})"
        ) from None
    if not isinstance(getattr(classifier, "score", None), nn.Linear) or classifier.score.bias is not None:
        raise UserError(f"--judge: the sequence classifier of {config.model_type} has no plain reward head")
    setattr(classifier, classifier.base_model_prefix, policy.base.base_model)
    classifier.score.weight = policy.head.weight
    return classifier.eval()
