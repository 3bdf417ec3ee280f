"""What a fit is trained on, to read: some of its rationales with a right and with a wrong verdict, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest

from data_tools.judging import Verdict, parse
from data_tools.order import hash64
from genrm_lightning.evaluation.dashboard import code_block
from genrm_lightning.prefix import Role, Tree
from genrm_lightning.rendering import Renderer

_LETTERS = (Verdict.A, Verdict.B)
_PROMPT = 2000  # characters of a judge prompt; its end, where the responses stand


def example_texts(trees: Sequence[Tree], renderer: Renderer, n: int) -> dict[str, str]:
    """Markdown of ``n`` training rows by tag (``examples/1``); none where the rows hold no rationale.

    The rows are drawn by the hash of their pair id: nobody picks them, and iterations that share pairs show the same.
    What comes from data or from a model stands in code blocks only.
    """
    if not any(role == Role.RATIONALE for tree in trees[:1] for branch in tree.branches for role in branch.roles):
        return {}
    first: dict[str, Tree] = {}
    for tree in trees:
        first.setdefault(tree.pair_id, tree)
    drawn = nsmallest(n, first, key=lambda pair_id: hash64("dashboard", pair_id))
    return {f"examples/{number}": _markdown(first[pair_id], renderer) for number, pair_id in enumerate(drawn, start=1)}


def _markdown(tree: Tree, renderer: Renderer) -> str:
    right = _LETTERS[tree.right]
    prompt = renderer.decode(tree.prefix)
    cut = "… " if len(prompt) > _PROMPT else ""
    blocks = [f"The better response is **{right}**.", f"Judge prompt:\n\n{code_block(cut + prompt[-_PROMPT:])}"]
    for branch in tree.branches:
        if Role.RATIONALE not in branch.roles:  # a verdict alone
            continue
        # What stands before the judgment is the end of its prompt.
        ids = [token for token, role in zip(branch.ids, branch.roles, strict=True) if role is not None]
        text = renderer.decode(ids)
        verdict = parse(text)
        head = f"**{'Right' if verdict is right else 'Wrong'}**: it says {verdict.value}"
        blocks.append(f"{head}\n\n{code_block(text)}")
    return "\n\n".join([*blocks, f"Pair:\n\n{code_block(tree.pair_id)}"])
