"""The command ``report``: what runs found, as one page to look at."""

from __future__ import annotations

from pathlib import Path

from data_tools.errors import UserError
from genrm_lightning.judging_commands import command_parser


def report(argv: list[str]) -> None:
    parser = command_parser("report", "Folders of evaluate, star and compare -> one self-contained HTML page.")
    parser.add_argument("runs", type=str, nargs="+", help="folders of evaluate, star or compare")
    parser.add_argument("--out", type=str, required=True, help="file to write, which ends in .html")
    parser.add_argument("--title", type=str | None, default=None, help="the page's heading")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of each set that are shown, at most")
    parser.add_argument(
        "--judges", type=str, nargs=2, default=None, metavar=("FIRST", "SECOND"),
        help="the two judges whose pairs are shown, as the page names them; left out: the best two of those that write "
        "rationales, or the best two of all where fewer than two do",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.pairs < 0:
        raise UserError(f"--pairs: {arguments.pairs} is below 0")
    folders = [Path(run).resolve() for run in arguments.runs]
    if repeated := [run for i, run in enumerate(arguments.runs) if folders[i] in folders[:i]]:
        raise UserError(f"{repeated[0]}: is named twice; name each folder once")

    from genrm_lightning.report_page import write

    out = Path(arguments.out)
    judges = tuple(arguments.judges) if arguments.judges else None
    made = write(
        [Path(run) for run in arguments.runs], out, title=arguments.title, pairs=arguments.pairs, judges=judges
    )
    counts = ((len(made.methods), "judge"), (len(made.sets), "set"))
    judges_on_sets = " on ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts)
    print(f"{judges_on_sets}: {out}")
