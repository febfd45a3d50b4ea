"""Files, folders and globs, local or in any store that fsspec knows."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference
from dac_tokenize.waveform.stores import FileSystems

# fmt: off
SNDFILE_SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc",
    ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc",
))
FFMPEG_SUFFIXES = frozenset((
    ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".ac3", ".amr",
    ".wv", ".ape", ".tta",
))
# fmt: on
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | FFMPEG_SUFFIXES
HIDDEN = "(hidden)"
NO_SUFFIX = "(no suffix)"
MAGIC = frozenset("*?[")


def suffix_of(path: str) -> str:
    """Gives a path's suffix in lower case, with its dot.

    >>> suffix_of("s3://bucket/a.b/C.WAV"), suffix_of("a/.hidden")
    ('.wav', '')
    """
    return os.path.splitext(path)[1].lower()


class FileLister:
    """Lists the audio files below what a user names; counts what it leaves out."""

    def __init__(self, skipped: Counter[str]) -> None:
        self._filesystems = FileSystems()
        self._skipped = skipped

    def list(self, uri: str) -> Iterator[Reference]:
        """Lists one input in the order of its keys.

        Raises:
            PlanError: there is nothing there.
        """
        filesystem, path = self._filesystems.resolve(uri)
        info = _info(filesystem, path, uri)
        if info is not None and not _is_folder(info):
            name = path.rstrip("/").rsplit("/", 1)[-1]
            yield Reference(key=as_key(name), uri=uri, size_bytes=info.get("size"))
            return
        if info is not None:
            root, found = path.rstrip("/"), self._walk(filesystem, path.rstrip("/"), ())
            uri_root = uri
        elif MAGIC.intersection(path):
            root, found = plain_folder(path), self._glob(filesystem, path)
            uri_root = plain_folder(uri)
        else:
            raise PlanError(f"there is no file or folder {uri}")
        is_empty = True
        for name, size in found:
            is_empty = False
            key = name[len(root) :].lstrip("/")
            yield Reference(key=as_key(key), uri=join_uri(uri_root, key), size_bytes=size)
        if is_empty:
            what = "in" if info is not None else "that match"
            raise PlanError(f"no audio files {what} {uri}{_skipped_text(self._skipped)}")

    def _glob(self, filesystem: Any, path: str) -> Iterator[tuple[str, int | None]]:
        root = plain_folder(path)
        for name, info in sorted(filesystem.glob(path, detail=True).items()):
            if any(part.startswith(".") for part in name[len(root) :].split("/")):
                self._skipped[HIDDEN] += 1
            elif not _is_folder(info) and self._is_audio(name):
                yield name, info.get("size")

    def _walk(
        self, filesystem: Any, folder: str, above: tuple[str, ...]
    ) -> Iterator[tuple[str, int | None]]:
        """Walks one folder at a time, so that memory holds one folder's names a level."""
        real = os.path.realpath(folder) if isinstance(filesystem, LocalFileSystem) else folder
        if real in above:  # a link that leads upwards
            return
        for name, path, info in _sorted_entries(filesystem, folder):
            if name.startswith("."):
                self._skipped[HIDDEN] += 1
            elif _is_folder(info):
                yield from self._walk(filesystem, path, (*above, real))
            elif self._is_audio(name):
                yield path, info.get("size")

    def _is_audio(self, path: str) -> bool:
        suffix = suffix_of(path)
        if suffix in AUDIO_SUFFIXES:
            return True
        self._skipped[suffix or NO_SUFFIX] += 1
        return False


def _sorted_entries(filesystem: Any, folder: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Lists a folder so that a walk over it gives keys in the order of plain strings."""
    try:
        infos = filesystem.ls(folder, detail=True)
    except PermissionError as error:
        raise PlanError(f"no permission to list the folder {folder}") from error
    except OSError as error:
        raise PlanError(f"the folder {folder} cannot be listed: {error}") from error
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
        return dict(filesystem.info(path))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PlanError(f"no permission to look at {uri}") from error
    except Exception as error:
        raise PlanError(f"cannot look at {uri}: {type(error).__name__}: {error}") from error


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


def as_key(name: str) -> str:
    """Makes a file's name printable text: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _skipped_text(skipped: Counter[str]) -> str:
    if not skipped:
        return ""
    counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
    return f" (left out: {counts})"
