"""`encode_batch`: an audio column to DAC codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from dac_tokenize.corpus.record import BASE_SCHEMA
from dac_tokenize.errors import AudioError, UsageError
from dac_tokenize.hf.columns import TypedColumn, Unreadable, audio_path, read_column, row_error
from dac_tokenize.hf.mapped import MapFunction
from dac_tokenize.process import codec_options, tokenizer_for
from dac_tokenize.waveform import WaveformOptions, audio_to_waveform

if TYPE_CHECKING:
    import os

    from dac_tokenize.tokenizer import EncodedClip
    from dac_tokenize.waveform.options import Samples

_COLUMNS = ("audio_codes", "num_frames", "num_samples", "duration_seconds")
_ERROR_COLUMN = "error"
_ADVICE = (
    "mend or drop the clip, or pass fn_kwargs={'on_error': 'null'} to give such rows null codes "
    "and the reason in the column 'error'"
)

ErrorPolicy = Literal["raise", "null"]


@MapFunction
def encode_batch(
    batch: Mapping[str, Any],
    rank: int | None = None,
    *,
    audio_column: str = "audio",
    model: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    num_codebooks: int | None = None,
    device: str = "auto",
    precision: str = "float32",
    source_sampling_rate: int | None = None,
    channels: Literal["mix", "first"] = "mix",
    on_error: ErrorPolicy = "raise",
) -> dict[str, list[Any]]:
    """Encodes a batch of a dataset, for `Dataset.map` and `IterableDataset.map`.

    The codes of a row do not depend on the rows it is encoded with. Options go through
    `fn_kwargs`. `datasets` keeps the results and finds them again, in a later run too, as long as
    dataset, options and the version of this package are the same; it does not look into a model's
    weights, so give a commit as `revision`, or any new label where a local folder has changed.

    A batch's encoded sound and its codes are in memory together: with long clips give `map` a
    `batch_size` of 100, say, in place of its 1000. One short clip a batch wastes most of a pass.

    Several processes: `map(..., num_proc=2, with_rank=True)` gives each a CUDA device of its own.
    Start them with `multiprocess.set_start_method("spawn")` under `if __name__ == "__main__":`
    (the package `multiprocess`, which `datasets` uses); a forked process cannot use CUDA.

    Args:
        batch: the columns of the batch.
        rank: number of the process, from `with_rank=True`: rank r takes CUDA device r modulo
            their number. Without effect on the CPU, or where `device` names a certain device.
        audio_column: name of the column to encode. Its values may be encoded sound as
            `Audio(decode=False)` gives it (bytes, path or both; the fastest, and no torchcodec is
            needed), decoded sound as `Audio()` gives it, dicts with array and sampling_rate,
            paths or URLs, or bare arrays (float, int16 or int32, shape (num_samples,) or
            (num_channels, num_samples)).
        model: name on the Hub or local folder; None for the codec that ships in this package.
        revision: branch, tag or commit on the Hub.
        num_codebooks: keep the first so many codebooks; None for all.
        device: "auto" (a CUDA GPU if there is one), or any torch device.
        precision: "float32", "tf32", "float16" or "bfloat16".
        source_sampling_rate: sampling rate of bare arrays (Hz).
        channels: "mix" encodes the mean of all channels, "first" the first one.
        on_error: "raise" stops at the first clip that cannot be encoded; "null" gives it nulls,
            and adds the column `error`, which is null where all went well.

    Returns:
        The new columns, one value a row:
            audio_codes: uint16, shape (num_codebooks, num_frames).
            num_frames: frames of the clip.
            num_samples: its samples at the codec's sampling rate.
            duration_seconds: num_samples / sampling_rate.
            error: only with on_error="null": what was wrong with the clip.

    Raises:
        ClipError: a clip cannot be encoded; the message names its row and path.
        CodecError: the codec does not load, or has fewer codebooks.
        UsageError: an option is wrong, or the batch has no such column.

    >>> columns = encode_batch({"audio": [[0.0] * 16_000]}, source_sampling_rate=16_000)
    >>> columns["audio_codes"][0].shape, columns["duration_seconds"]
    ((12, 50), [1.0])
    """
    if on_error not in ("raise", "null"):
        raise UsageError(f"on_error is {on_error!r}; expected 'raise' or 'null'")
    if channels not in ("mix", "first"):
        raise UsageError(f"channels is {channels!r}; expected 'mix' or 'first', one clip a row")
    options = codec_options(model, revision, num_codebooks, device, precision)
    values = read_column(batch, audio_column)
    if not values:
        return _columns([], 1, on_error)
    tokenizer = tokenizer_for(options, rank)
    mono = WaveformOptions(channels=channels)
    clips = (
        _blocks(value, tokenizer.sampling_rate, source_sampling_rate, mono) for value in values
    )
    encoded = []
    for item in tokenizer.encode_stream(clips):
        if item.error is not None and on_error == "raise":
            path = audio_path(values[item.index])
            raise row_error(item.index, path, item.error, _ADVICE) from item.error
        encoded.append(item)
    return _columns(encoded, tokenizer.sampling_rate, on_error)


def codes_features(
    features: Any = None,
    *,
    remove_columns: str | Iterable[str] = (),
    on_error: ErrorPolicy = "raise",
) -> Any:
    """Returns the features of a dataset after `map(encode_batch)`.

    A mapped `Dataset` has them anyway; a streamed one knows its features only if it is told:
    `stream.map(encode_batch, batched=True, features=codes_features(stream.features))`.

    Args:
        features: the dataset's features before; None for none.
        remove_columns: the columns that `map` is told to remove.
        on_error: as given to `encode_batch`; "null" adds the column `error`.

    Returns:
        A `datasets.Features`, in which `audio_codes` is `List(List(Value('uint16')))`.

    >>> list(codes_features())
    ['audio_codes', 'num_frames', 'num_samples', 'duration_seconds']
    """
    from datasets import Features

    removed = {remove_columns} if isinstance(remove_columns, str) else set(remove_columns)
    kept = {name: kind for name, kind in (features or {}).items() if name not in removed}
    return Features({**kept, **Features.from_arrow_schema(_schema(on_error))})


def _schema(on_error: ErrorPolicy) -> pa.Schema:
    fields = [BASE_SCHEMA.field(name) for name in _COLUMNS]
    if on_error == "null":
        fields.append(pa.field(_ERROR_COLUMN, pa.string()))
    return pa.schema(fields)


def _blocks(
    value: Any, sampling_rate: int, source_sampling_rate: int | None, options: WaveformOptions
) -> Iterator[Samples]:
    """Yields a clip in one block, decoded when its turn comes; its faults are `ClipError`s."""
    if isinstance(value, Unreadable):
        raise value.error
    try:
        samples = audio_to_waveform(
            value, sampling_rate, source_sampling_rate=source_sampling_rate, options=options
        )
    except RuntimeError as error:  # from torchcodec, whose decoders open lazily
        raise AudioError(f"its decoder failed: {error}") from error
    yield samples


def _columns(
    encoded: list[EncodedClip], sampling_rate: int, on_error: ErrorPolicy
) -> dict[str, list[Any]]:
    """Puts encoded clips into columns."""
    failed = [item.audio_codes is None for item in encoded]
    num_samples = [
        None if bad else item.num_samples for item, bad in zip(encoded, failed, strict=True)
    ]
    values: dict[str, list[Any]] = {
        "audio_codes": [item.audio_codes for item in encoded],
        "num_frames": [
            None if item.audio_codes is None else item.audio_codes.shape[1] for item in encoded
        ],
        "num_samples": num_samples,
        "duration_seconds": [None if n is None else n / sampling_rate for n in num_samples],
        _ERROR_COLUMN: [None if item.error is None else str(item.error) for item in encoded],
    }
    return {field.name: TypedColumn(values[field.name], field.type) for field in _schema(on_error)}
