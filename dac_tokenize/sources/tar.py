"""WebDataset tars: indexed once, members read by range, siblings carried as columns."""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dac_tokenize.errors import PlanError
from dac_tokenize.locators import Span, dump_locator
from dac_tokenize.references import Reference
from dac_tokenize.sources.records import Found, as_metadata, as_text, faulty
from dac_tokenize.sources.suffixes import AUDIO_SUFFIXES, suffix_of

INDEX_BLOCK_BYTES = 2**18
MAX_SIBLING_BYTES = 2**20
TEXT_SUFFIXES = (".txt", ".text", ".cls", ".lab", ".lang", ".spk", ".transcript")
ZEROS = bytes(tarfile.BLOCKSIZE)
COMPRESSED_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def list_tar(found: Found, skipped: Counter[str]) -> Iterator[Reference]:
    """Lists the sounds of an uncompressed tar, in its order.

    A clip's key is the tar's key and the member's name. Of files that share a member's name up
    to its first dot, `.json` (an object) and text files become its metadata; `__key__` is that
    shared name. A member that leads out of the folder, that is a link, or whose name came
    before, and an archive that ends too early, become references that fail with that reason.

    Args:
        found: the tar.
        skipped: counts members left out, by suffix.

    Raises:
        PlanError: it is no uncompressed tar.
    """
    with found.open(block_size=INDEX_BLOCK_BYTES, cache_type="readahead") as file:
        _check_magic(file, found)
        group: list[tuple[tarfile.TarInfo, bytes | None]] = []
        seen: set[str] = set()
        for member, data in _members(file, found):
            if isinstance(member, Reference):
                yield from _clips(found, group, seen, skipped)
                yield member
                return
            if group and group_key(member.name) != group_key(group[0][0].name):
                yield from _clips(found, group, seen, skipped)
                group = []
            group.append((member, data))
        yield from _clips(found, group, seen, skipped)


def group_key(name: str) -> str:
    """Gives what the files of one sample share: the path up to its last part's first dot.

    >>> group_key("a.b/0001.left.wav")
    'a.b/0001'
    """
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".", 1)[0]


def _check_magic(file: Any, found: Found) -> None:
    head = file.read(2 * tarfile.BLOCKSIZE)
    file.seek(0)
    if head.startswith(COMPRESSED_MAGICS):
        raise PlanError(
            f"{found.uri} is compressed: its members cannot be read by range; unpack it first"
        )
    if not head:
        raise PlanError(f"{found.uri} is empty (0 bytes); expected a tar")


def _members(file: Any, found: Found) -> Iterator[tuple[tarfile.TarInfo | Reference, bytes | None]]:
    """Yields members with the data of siblings; a faulty reference where the archive ends badly."""
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the caller closes the file
    except (tarfile.TarError, OSError) as error:
        raise PlanError(f"{found.uri} is no tar: {error}") from error
    size = file.seek(0, 2)
    fault = f"{found.uri} is cut short or damaged at byte "
    while True:
        start = archive.offset
        try:
            member = archive.next()
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            yield (
                faulty(f"{found.key}/(after byte {start})", found.uri, f"{fault}{start}: {error}"),
                None,
            )
            return
        archive.members.clear()  # type: ignore[attr-defined] # it would keep them all
        if member is None:
            break
        yield member, _sibling_data(file, member, size)
    file.seek(start)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        reason = f"{fault}{start}: no member begins there, and {size - start} bytes follow"
        yield faulty(f"{found.key}/(after byte {start})", found.uri, reason), None


def _sibling_data(file: Any, member: tarfile.TarInfo, size: int) -> bytes | None:
    if not member.isreg() or suffix_of(member.name) not in (".json", *TEXT_SUFFIXES):
        return None
    if member.size > MAX_SIBLING_BYTES or member.offset_data + member.size > size:
        return None
    file.seek(member.offset_data)
    data: bytes = file.read(member.size)
    return data


def _clips(
    found: Found,
    group: list[tuple[tarfile.TarInfo, bytes | None]],
    seen: set[str],
    skipped: Counter[str],
) -> Iterator[Reference]:
    """Makes references of one sample's sounds."""
    sounds = []
    columns: dict[str, Any] = {}
    for member, data in group:
        suffix = suffix_of(member.name)
        if suffix in AUDIO_SUFFIXES and not member.isdir():
            sounds.append(member)
        elif data is not None:
            columns |= _columns(member.name, data)
        elif not member.isdir():
            skipped[suffix or "(no suffix)"] += 1
    for member in sounds:
        name = as_text(member.name)
        key, reason = f"{found.key}/{name}", _objection(member, name in seen)
        if reason is not None:
            yield faulty(f"{key} (at byte {member.offset})", found.uri, reason)
            continue
        seen.add(name)
        metadata = as_metadata({"__key__": group_key(name), **columns})
        span = Span(start=member.offset_data, object_bytes=found.size_bytes, name=name)
        yield Reference(
            key=key,
            uri=found.uri,
            size_bytes=member.size,
            metadata=metadata,
            locator=dump_locator(span),
        )


def _objection(member: tarfile.TarInfo, is_repeated: bool) -> str | None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return f"the member's name {member.name!r} leads out of the archive"
    if not member.isreg():
        target = f" to {member.linkname!r}" if member.linkname else ""
        return f"the member {member.name!r} is no file but a link or device{target}"
    if is_repeated:
        return f"the archive holds {member.name!r} twice; the first one is taken"
    return None


def _columns(name: str, data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8-sig", "backslashreplace")
    suffix = suffix_of(name)
    if suffix == ".json":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict):
            return values
    return {suffix.removeprefix("."): text.rstrip("\r\n")}
