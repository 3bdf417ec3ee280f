"""Datasets of the Hugging Face hub as Parquet files, by the ``datasets`` library; no code of a dataset is ever run.

What was fetched lies in the user's cache, in a folder a dataset, configuration, split and commit, with a manifest: its
rows have a name that stays, whatever becomes of the branch they were taken from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools import artifact, lineage
from data_tools.errors import UserError, is_full

SHARD_BYTES = 512 << 20  # of Arrow, so that a reader of whole files is bounded, too
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Fetched:
    """Rows of a dataset.

    Attributes:
        files: Parquet, by split and number: ``train-00000-of-00002.parquet`` as the hub names them.
        facts: what a manifest says of them: repo, revision (the commit; None where it cannot be told), config, splits
            with their rows.
    """

    files: list[Path]
    facts: dict[str, Any]


def fetch(repo_id: str, revision: str | None = None, config: str | None = None, split: str | None = None) -> Fetched:
    """Rows of a dataset, fetched once for each commit.

    Args:
        repo_id: ``OWNER/NAME``, or a folder as ``datasets`` would load it.
        revision: branch, tag or commit; None: the default branch.
        config: where the dataset has several.
        split: None: all there are.

    Raises:
        UserError: ``datasets`` is not installed; the hub cannot be reached, does not know the dataset (or revision,
            configuration, split), or wants an account for it; the dataset is a script; no rows; no room.
    """
    folder_of_ours = Path(repo_id).is_dir()
    if _ID.fullmatch(repo_id):
        if folder_of_ours:
            raise UserError(
                f"{repo_id}: is a folder here, too, and would be taken for the dataset of that name; "
                f"name ./{repo_id} for the folder, or work elsewhere for the hub"
            )
    elif not folder_of_ours:
        raise UserError(f"--hub {repo_id}: is neither OWNER/NAME[@REVISION] nor a folder")
    elif revision is not None:
        raise UserError(f"{repo_id}: a folder has no revisions; leave out @{revision}")
    datasets = _library()
    with _told(repo_id):
        builder = datasets.load_dataset_builder(repo_id, name=config, revision=revision)
        commit = None if folder_of_ours else _commit(builder, revision)
        key = {"stage": "hub", "repo": repo_id, "revision": commit, "config": builder.config.name, "split": split}
        # The library's own cache folder is another one for other files, so a local folder that changed is read again.
        key["files"] = f"cache {artifact.digest_of(str(builder.cache_dir))}"  # no digest of a stage
    folder = cache_root() / "hub" / f"{repo_id.strip('/').replace('/', '--')[-80:]}-{artifact.digest_of(key)[:16]}"
    if not artifact.is_complete(folder, key) or _lacks_files(folder):
        with _told(repo_id):
            builder.download_and_prepare()
            loaded = builder.as_dataset(split=split)
        tables = loaded if split is None else {split: loaded}
        if not sum(table.num_rows for table in tables.values()):
            raise UserError(f"{repo_id}: has no rows")
        with artifact.atomic_folder(folder) as temporary, _told(repo_id):
            rows = {str(name): _write(table, str(name), temporary) for name, table in tables.items()}
            settings = {name: value for name, value in key.items() if name not in ("stage", "files")}
            made = lineage.facts("hub", (), folder) | {"settings": settings, "counts": {"written": rows}}
            made["versions"] |= {"datasets": datasets.__version__}
            tables = sorted(temporary.glob("*.parquet"))
            outputs = lineage.outputs_of(tables)
            artifact.write_manifest(temporary, key, tables=[file.stem for file in tables], outputs=outputs, **made)
    rows = artifact.read_json(folder / artifact.MANIFEST)["counts"]["written"]
    facts = {"repo": repo_id, "revision": commit, "config": key["config"], "splits": rows}
    return Fetched(sorted(folder.glob("*.parquet")), facts)


def _lacks_files(folder: Path) -> bool:
    """Whether somebody removed files of a complete folder."""
    tables = artifact.read_json(folder / artifact.MANIFEST).get("tables", ())
    return not all((folder / f"{name}.parquet").is_file() for name in tables)


def cache_root() -> Path:
    """The user's cache: ``$GENRM_CACHE``, else ``$XDG_CACHE_HOME/genrm_lightning``, else ``~/.cache/…``."""
    if own := os.environ.get("GENRM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genrm_lightning"


def _library() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError(f"--hub needs {error.name}; install it with: pip install 'genrm-lightning[data]'") from None
    datasets.disable_progress_bars()
    return datasets


def _commit(builder: Any, revision: str | None) -> str | None:
    """The commit that was taken, as far as the library tells: from its cache without the network it need not."""
    known = (revision, builder.hash, *re.findall(r"@([0-9a-f]{40})", str(builder.base_path)))
    return next((name for name in known if name and _COMMIT.fullmatch(name)), None)


def _write(table: Any, split: str, folder: Path) -> int:
    """A split as Parquet files of about SHARD_BYTES, a row group at a time; returns its rows."""
    shards = max(1, -(-table.data.nbytes // SHARD_BYTES)) if table.num_rows else 0
    for i in range(shards):
        part = table.shard(shards, i, contiguous=True) if shards > 1 else table
        part.to_parquet(folder / f"{split}-{i:05d}-of-{shards:05d}.parquet")
    return table.num_rows


@contextmanager
def _told(repo_id: str) -> Iterator[None]:
    """What the library says of a dataset that it cannot give, in one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the library's, the hub client's, the network's: there is no end of classes
        if is_full(error):
            raise UserError(f"{repo_id}: no room left in the cache ($HF_HOME, $GENRM_CACHE); make room there") from None
        said = " ".join(f"{error}".split())[:300] or type(error).__name__
        raise UserError(f"{repo_id}: {_remedy(type(error).__name__, said)(said)}") from None


def _remedy(kind: str, said: str) -> Callable[[str], str]:
    """How to say it, by the library's words: its classes differ from version to version."""
    lower = said.lower()
    if "scripts are no longer supported" in lower:
        return lambda _: (
            "is loaded by a script of its own, which is never run; "
            "many such datasets have Parquet files at the revision refs/convert/parquet"
        )
    if "gated" in lower:
        return lambda _: "is gated: ask for access on its page, and log in with: hf auth login"
    if "config name is missing" in lower or "builderconfig" in lower:
        return lambda said: f"{said}; name one with --hub-config"
    if "unknown split" in lower or ("split" in lower and kind in ("ValueError", "KeyError")):
        return lambda said: f"{said}; name one with --hub-split"
    if "revision" in lower and "doesn't exist" in lower:
        return lambda said: f"{said}; name another one behind the @"
    if "reach" in lower or "offline" in lower or kind in ("ConnectionError", "ConnectError", "ConnectTimeout"):
        return lambda _: "the hub cannot be reached, and the dataset is in no cache of this machine; try again online"
    if kind in ("DatasetNotFoundError", "RepositoryNotFoundError", "FileNotFoundError"):
        return lambda _: "the hub does not know it, or does not show it to you; check OWNER/NAME, or: hf auth login"
    if kind in ("DataFilesNotFoundError", "EmptyDatasetError"):
        return lambda _: "holds no files of data that can be loaded"
    return lambda said: f"cannot be fetched ({kind}: {said})"
