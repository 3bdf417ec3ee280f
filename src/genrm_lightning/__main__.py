"""``python -m genrm_lightning <command>``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from data_tools.errors import UserError, is_full
from genrm_lightning.parsing import INTERRUPTED, SUBCOMMANDS, TERMINATED, Terminated, terminable
from genrm_lightning.quiet import quiet_threads

_HELP = """usage: python -m genrm_lightning <command> [--help] [options]

train and use one model (LightningCLI; --config FILE may be given several times, later ones win):
  fit        train an objective; the judge is saved in <trainer.default_root_dir>/judge
  validate   its loss and metrics on the validation part
  test       the same on the test part
  predict    what it says of each test pair, in <trainer.default_root_dir>/predictions.parquet
  plan       what a fit takes, before weights are loaded: parameters, tokens, FLOPs, memory, time
  export     a judge as a plain Hugging Face folder: reward models as sequence classifiers, others as causal LMs

judge and improve by its own reasoning (STaR):
  star       sample, select, fit, evaluate, N times; a second call goes on where the first stopped
  join       draw samples for such a run from another machine, or another process on this one
  compare    the methods of the paper on the same pairs, one table; a second call goes on, too
  sample     preference pairs -> judgments: rationales with their verdicts, in both orders
  score      examples -> the same with the reference policy's log-probabilities
  evaluate   a judge on held-out pairs -> accuracy with intervals
  hack       the same with the worse responses under attack -> which attacks win
  votes      judgments of K samples -> accuracy by K, what stopping early saves, which pairs to abstain from
  faithfulness  whether a judge's verdicts come from its rationales
  report     runs of evaluate, star and compare -> one page to look at

use a judge:
  study      how it agrees with people, and at which confidence
  label      unlabelled pairs -> preference labels; unsure pairs and ties apart
  try        a pair of yours in the terminal: the rationale as it is written, p in both orders
  rank       several responses to a prompt -> their order and the best one, with few comparisons
  serve      a judge over HTTP, for trainers (OpenRLHF, vLLM's shapes), comparisons and chat

text and tables: python -m data_tools --help
"""


# Commands that a second call takes up where the first one was stopped.
_GO_ON = ("star", "join", "compare", "sample", "evaluate", "hack", "label", "rank")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when done, 2 for what the user can mend (one line on stderr), 130 after Ctrl-C, 143 after SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    more = "; the same command goes on from here" if argv[0] in _GO_ON else ""
    try:
        with terminable():
            status = _dispatch(argv)
            sys.stdout.flush()
        return status
    except UserError as error:
        return _fail(str(error))
    except SystemExit as left:  # of the parsers: --help, or a mistake that they have told already
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BrokenPipeError:
        # The reader (head, less) has left: nobody is there to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if is_full(error):
            where = getattr(error, "filename", None) or "a file or the output"
            return _fail(f"{where}: no room left on the disk; make room there and run the same command again")
        if getattr(error, "filename", None) is None or not isinstance(error, OSError):  # a traceback says more
            raise
        return _fail(f"{os.fsdecode(error.filename)}: {error.strerror or error}")
    except Terminated:
        print(f"terminated{more}", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print(f"interrupted{more}", file=sys.stderr)
        return INTERRUPTED


def _dispatch(argv: list[str]) -> int:
    if find_spec("torch") is None:  # where only the data tools are installed
        raise UserError("torch is not installed; run: pip install 'genrm-lightning[train]'")
    quiet_threads()
    # Imported only where it is used: a finished STaR run says so without waiting for torch.
    if argv[0] in SUBCOMMANDS:
        from genrm_lightning import cli

        return cli.main(argv)
    from genrm_lightning import commands

    return commands.main(argv)


def _fail(message: str) -> int:
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
