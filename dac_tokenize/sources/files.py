"""Files, folders and globs, local or in any store that fsspec knows."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from dac_tokenize.errors import PlanError
from dac_tokenize.retries import describe, is_transient, with_retries
from dac_tokenize.sources.records import Found
from dac_tokenize.sources.suffixes import (
    AUDIO_SUFFIXES,
    CONTAINER_SUFFIXES,
    is_container,
    suffix_of,
)
from dac_tokenize.waveform.stores import FileSystems

HIDDEN = "(hidden)"
NO_SUFFIX = "(no suffix)"
MAGIC = frozenset("*?[")
BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<list>[^{},]*(?:,[^{},]*)+))\}")


class FileLister:
    """Lists the audio files below what a user names; counts what it leaves out."""

    def __init__(self, skipped: Counter[str]) -> None:
        self._filesystems = FileSystems()
        self._skipped = skipped

    def list(self, uri: str) -> Iterator[Found]:
        """Lists one input in the order of its keys.

        A folder gives the audio files below it; a pattern also files that hold or name many
        sounds; a file by itself is what the user says.

        Raises:
            PlanError: there is nothing there.
        """
        filesystem, path = self._filesystems.resolve(uri)
        info = _info(filesystem, path, uri)
        if info is not None and not _is_folder(info):
            name = path.rstrip("/").rsplit("/", 1)[-1]
            yield Found(name, uri, info.get("size"), filesystem, path)
            return
        if info is not None:
            root, found = path.rstrip("/"), self._walk(filesystem, path.rstrip("/"), uri, ())
            uri_root = uri
        elif MAGIC.intersection(path):
            root, found = plain_folder(path), self._glob(filesystem, path, uri)
            uri_root = plain_folder(uri)
        else:
            raise PlanError(f"there is no file or folder {uri}")
        is_empty = True
        for name, size in found:
            is_empty = False
            key = name[len(root) :].lstrip("/")
            yield Found(key, join_uri(uri_root, key), size, filesystem, name)
        if is_empty:
            self._refuse_empty(uri, is_folder=info is not None)

    def _refuse_empty(self, uri: str, is_folder: bool) -> None:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self._skipped.items()))
        left_out = f" (left out: {counts})" if counts else ""
        containers = sorted(CONTAINER_SUFFIXES.intersection(self._skipped))
        hint = ""
        if is_folder and containers:
            hint = f"; to take what lies in them, give {join_uri(uri, '*' + containers[0])}"
        raise PlanError(
            f"no audio files {'in' if is_folder else 'that match'} {uri}{left_out}{hint}"
        )

    def _glob(self, filesystem: Any, path: str, uri: str) -> Iterator[tuple[str, int | None]]:
        root = plain_folder(path)
        with _listing_errors(uri):
            found = with_retries(lambda: filesystem.glob(path, detail=True), uri)
        for name, info in sorted(found.items()):
            if any(part.startswith(".") for part in name[len(root) :].split("/")):
                self._skipped[HIDDEN] += 1
            elif not _is_folder(info) and (is_container(name) or self._is_audio(name)):
                yield name, info.get("size")

    def _walk(
        self, filesystem: Any, folder: str, uri: str, above: tuple[str, ...]
    ) -> Iterator[tuple[str, int | None]]:
        """Walks one folder at a time, so that memory holds one folder's names a level."""
        real = os.path.realpath(folder) if isinstance(filesystem, LocalFileSystem) else folder
        if real in above:  # a link that leads upwards
            return
        for name, path, info in _sorted_entries(filesystem, folder, uri):
            if name.startswith("."):
                self._skipped[HIDDEN] += 1
            elif _is_folder(info):
                yield from self._walk(filesystem, path, uri, (*above, real))
            elif self._is_audio(name):
                yield path, info.get("size")

    def _is_audio(self, path: str) -> bool:
        suffix = suffix_of(path)
        if suffix in AUDIO_SUFFIXES:
            return True
        self._skipped[suffix or NO_SUFFIX] += 1
        return False


@contextlib.contextmanager
def _listing_errors(folder: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PlanError(f"no permission to list the folder {folder}") from error
    except Exception as error:
        raise PlanError(f"the folder {folder} cannot be listed: {describe(error)}") from error


def _sorted_entries(
    filesystem: Any, folder: str, uri: str
) -> list[tuple[str, str, dict[str, Any]]]:
    """Lists a folder so that a walk over it gives keys in the order of plain strings."""
    with _listing_errors(folder):
        infos = with_retries(lambda: filesystem.ls(folder, detail=True), uri)
    entries = []
    for info in infos:
        path = str(info["name"]).rstrip("/")
        if path != folder:
            entries.append((path.rsplit("/", 1)[-1], path, info))
    return sorted(entries, key=lambda entry: entry[0] + "/" if _is_folder(entry[2]) else entry[0])


def _is_folder(info: dict[str, Any]) -> bool:
    """Tells folders, and links to folders, from files."""
    return info["type"] == "directory" or bool(info.get("islink") and os.path.isdir(info["name"]))


def _info(filesystem: Any, path: str, uri: str) -> dict[str, Any] | None:
    try:
        return dict(with_retries(lambda: filesystem.info(path), uri))
    except FileNotFoundError as error:
        if is_transient(error):
            raise PlanError(f"cannot look at {uri}: {error.__cause__!r}") from error
        return None
    except PermissionError as error:
        raise PlanError(f"no permission to look at {uri}") from error
    except Exception as error:
        raise PlanError(f"cannot look at {uri}: {describe(error)}") from error


def plain_folder(pattern: str) -> str:
    """Gives the longest folder of a pattern that has no wildcard in it.

    >>> plain_folder("/data/2024-*/a.wav")
    '/data'
    """
    first = min(pattern.find(sign) for sign in MAGIC if sign in pattern)
    return pattern[:first].rsplit("/", 1)[0]


def join_uri(folder: str, key: str) -> str:
    """Gives the uri of what lies below a folder, also inside of an archive.

    >>> join_uri("zip://a::s3://bucket/x.zip", "b.wav")
    'zip://a/b.wav::s3://bucket/x.zip'
    """
    inner, chain, outer = folder.partition("::")
    return f"{inner.rstrip('/')}/{key}{chain}{outer}"


def expand_braces(pattern: str) -> Iterator[str]:
    """Expands shard patterns: ranges with leading zeros, and lists.

    >>> list(expand_braces("s3://b/{train,dev}-{08..10}.tar"))[:4]
    ['s3://b/train-08.tar', 's3://b/train-09.tar', 's3://b/train-10.tar', 's3://b/dev-08.tar']
    """
    match = BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    head, tail = pattern[: match.start()], pattern[match.end() :]
    for choice in _choices(match):
        for rest in expand_braces(tail):
            yield head + choice + rest


def _choices(match: re.Match[str]) -> Iterator[str]:
    if match["list"] is not None:
        yield from match["list"].split(",")
        return
    first, last = int(match["first"]), int(match["last"])
    width = max(len(match["first"]), len(match["last"]))
    step = 1 if first <= last else -1
    for number in range(first, last + step, step):
        yield f"{number:0{width}d}"
