"""What an audit does: plain values that travel between workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dac_tokenize.audit.perceptual import checked_scores
from dac_tokenize.audit.sampling import SampleRequest
from dac_tokenize.audit.verdict import checked_thresholds
from dac_tokenize.errors import UsageError

if TYPE_CHECKING:
    from dac_tokenize.corpus.plan import Plan

DECODE = ("auto", "all", "sample")
"""Which rows are decoded to see whether their sound is finite, silent or clipped."""

DECODED_SECONDS = 36_000.0
"""Up to so much sound, by the plan's estimate, "auto" decodes all rows."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What an audit does.

    Attributes:
        sample: which rows are looked at closely.
        codebooks: numbers of codebooks to decode with, or "all"; all is always among them.
        decode: rows decoded to check their sound: "all", which takes about as long as the encoding
            did, the "sample", or "auto": all where the corpus has at most `DECODED_SECONDS`.
        fidelity: encode sources again by plain `DacModel`.
        stability: encode decoded sound again.
        perceptual: which of `perceptual.SCORES` are computed as well.
        page_clips: clips that the page plays, the worst ones.
        thresholds: in place of the defaults, see `dac_tokenize.audit.verdict.THRESHOLDS`.
        model: where the corpus's codec is now; None for where it was.
        revision: as for `DacTokenizer.from_pretrained`.
        device: as for `DacTokenizer.from_pretrained`.
    """

    sample: SampleRequest = field(default_factory=SampleRequest)
    codebooks: tuple[int | str, ...] = (1, 2, 4, "all")
    decode: str = "auto"
    fidelity: bool = True
    stability: bool = True
    perceptual: tuple[str, ...] = ()
    page_clips: int = 50
    thresholds: Mapping[str, float | None] | None = None
    model: str | None = None
    revision: str | None = None
    device: str = "auto"


def check_options(plan: Plan, options: AuditOptions) -> None:
    """Refuse options before any work.

    Raises:
        UsageError: one is out of range, or a library is not installed.
    """
    codebook_counts(options.codebooks, plan.request.codec.num_codebooks)
    checked_thresholds(options.thresholds, plan.request.codec.precision)
    checked_scores(options.perceptual)
    if options.decode not in DECODE:
        raise UsageError(f"decode is {options.decode!r}; expected one of {', '.join(DECODE)}")
    if options.page_clips < 0:
        raise UsageError(f"page_clips is {options.page_clips}; expected 0 or more")


def decodes_all(plan: Plan, options: AuditOptions) -> bool:
    """Tell whether an audit decodes all rows, and not only the sample."""
    if options.decode == "auto":
        return plan.estimated_seconds <= DECODED_SECONDS
    return options.decode == "all"


def codebook_counts(given: Sequence[int | str], num_codebooks: int) -> tuple[int, ...]:
    """Return the numbers of codebooks to decode with, ascending, all of them the last.

    Args:
        given: numbers, or "all"; those above `num_codebooks` are left out.
        num_codebooks: how many the corpus has.

    Raises:
        UsageError: one is no number above 0.

    >>> codebook_counts([4, 1, "all", 64], 9)
    (1, 4, 9)
    """
    counts = {num_codebooks}
    for one in given:
        if one == "all":
            continue
        if not str(one).strip().isdecimal() or not int(one):
            raise UsageError(f"codebooks has {one!r}; expected numbers above 0, or all")
        if int(one) < num_codebooks:
            counts.add(int(one))
    return tuple(sorted(counts))
