"""Files, folders and globs, local or in any store that fsspec knows."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference
from dac_tokenize.waveform.fetch import FileSystems, as_uri, is_url

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
        prefix = uri_prefix(uri, filesystem)
        if MAGIC.intersection(path):
            yield from self._glob(filesystem, path, prefix, uri)
            return
        info = _info(filesystem, path, uri)
        if info["type"] == "directory":
            root = path.rstrip("/")
            found = False
            for reference in self._walk(filesystem, root, root, prefix, ()):
                found = True
                yield reference
            if not found:
                raise PlanError(f"no audio files in {uri}" + _skipped_text(self._skipped))
        else:
            name = path.rstrip("/").rsplit("/", 1)[-1]
            yield Reference(key=name, uri=as_uri(uri), size_bytes=info.get("size"))

    def _glob(self, filesystem: Any, path: str, prefix: str, uri: str) -> Iterator[Reference]:
        found = filesystem.glob(path, detail=True)
        root = path[: _first_magic(path)].rsplit("/", 1)[0]
        audio = []
        for name, info in found.items():
            if info["type"] == "directory":
                continue
            if is_audio(name, self._skipped):
                audio.append((relative_key(name, root), name, info.get("size")))
        if not audio:
            raise PlanError(f"no audio files match {uri}" + _skipped_text(self._skipped))
        for key, name, size in sorted(audio):
            yield Reference(key=key, uri=prefix + name, size_bytes=size)

    def _walk(
        self, filesystem: Any, folder: str, root: str, prefix: str, above: tuple[str, ...]
    ) -> Iterator[Reference]:
        """Walks one folder at a time, so that memory holds one folder's names a level."""
        if not prefix:
            real = os.path.realpath(folder)
            if real in above:  # a link to a folder above
                return
            above = (*above, real)
        for name, path, info in _sorted_entries(filesystem, folder):
            if name.startswith("."):
                self._skipped[HIDDEN] += 1
            elif info["type"] == "directory":
                yield from self._walk(filesystem, path, root, prefix, above)
            elif is_audio(name, self._skipped):
                key = relative_key(path, root)
                yield Reference(key=key, uri=prefix + path, size_bytes=info.get("size"))


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
    return sorted(entries, key=lambda e: e[0] + "/" if e[2]["type"] == "directory" else e[0])


def is_audio(path: str, skipped: Counter[str]) -> bool:
    """Tells audio files by their suffix; counts the others."""
    suffix = suffix_of(path)
    if suffix in AUDIO_SUFFIXES:
        return True
    skipped[suffix or NO_SUFFIX] += 1
    return False


def relative_key(path: str, root: str) -> str:
    """Gives the path of a file below a root, with / between its parts."""
    return path[len(root) :].lstrip("/") if path.startswith(root) else path.lstrip("/")


def uri_prefix(uri: str, filesystem: Any) -> str:
    """Gives what must stand before a file system's paths to make URLs; nothing for local ones."""
    if not is_url(as_uri(uri)):
        return ""
    protocol = uri.split("://", 1)[0]
    name: str = filesystem.unstrip_protocol("x")
    return "" if name == "x" or protocol in ("http", "https") else name[: -len("x")]


def _info(filesystem: Any, path: str, uri: str) -> dict[str, Any]:
    try:
        return dict(filesystem.info(path))
    except FileNotFoundError as error:
        raise PlanError(f"there is no file or folder {uri}") from error
    except PermissionError as error:
        raise PlanError(f"no permission to look at {uri}") from error
    except Exception as error:
        raise PlanError(f"cannot look at {uri}: {type(error).__name__}: {error}") from error


def _first_magic(path: str) -> int:
    return min(path.find(sign) for sign in MAGIC if sign in path)


def _skipped_text(skipped: Counter[str]) -> str:
    if not skipped:
        return ""
    counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
    return f" (left out: {counts})"
