"""``python -m genrm_lightning <command>``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from data_tools.errors import UserError

_HELP = """usage: python -m genrm_lightning <command> [--help] [options]

train and use one model (LightningCLI; --config FILE may be given several times, later ones win):
  fit        train an objective; the judge is saved in <trainer.default_root_dir>/judge
  validate   its loss and metrics on the validation part
  test       the same on the test part
  predict    its values, one a pair

judge and improve by its own reasoning (STaR):
  star       sample, select, fit, evaluate, N times; a second call goes on where the first stopped
  sample     preference pairs -> judgments: rationales with their verdicts, in both orders
  score      examples -> the same with the reference policy's log-probabilities
  evaluate   a judge on held-out pairs -> accuracy with intervals

text and tables: python -m data_tools --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when done, 2 for a mistake of the user's (one line on stderr), 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    try:
        try:
            import torch  # noqa: F401  # absent where only the data tools are installed
        except ModuleNotFoundError:
            raise UserError("torch is not installed; run: pip install 'genrm-lightning[train]'") from None
        from genrm_lightning import cli, commands

        if argv[0] in cli.SUBCOMMANDS:
            return cli.main(argv)
        return commands.main(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
