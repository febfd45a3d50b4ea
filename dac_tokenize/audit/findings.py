"""What an audit can find wrong, each with a name, a weight and a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MAX_LISTED = 200
"""Findings listed for each check; all are counted."""

FAULTS = {
    "missing": "a shard of the plan has not been published",
    "damaged": "a file cannot be read",
    "checksum": "a file is not the one that the manifest was written for",
    "manifest": "manifest, plan and files contradict each other",
    "footer": "a file's footer, columns and the plan contradict each other",
    "counts": "a file's rows are not as many as its footer or the manifest says",
    "keys": "a file's rows are not those of the plan",
    "codes": "codes have a wrong number of codebooks or frames, or lie past their codebook",
    "frames": "frames, samples and seconds do not fit together",
    "failed inputs": "the list of failed inputs is not that of the files",
    "stray": "a file does not belong to the corpus",
    "constant-codebook": "one codebook never changes while the others do",
    "dead-codebook": "a codebook holds (nearly) one entry all over the corpus",
    "not-finite": "the decoded sound holds NaN or infinite samples",
    "source": "the source cannot be read, has changed, or has another length",
    "fidelity": "plain DacModel gives other codes for the source",
    "shifted": "the decoded sound comes early or late by a frame or more",
}
"""Checks whose findings mean that something is wrong; down to "stray" they are `verify`'s."""

NOTES = {
    "unfinished": "there is no manifest yet",
    "repeating": "a second or more of the same frame",
    "silence": "the decoded sound is silent",
    "clipping": "the decoded sound is clipped",
    "near-duplicate": "two rows have nearly the same codes",
}
"""Checks whose findings are worth a look; real sound has them too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        check: a key of `FAULTS` or `NOTES`.
        key: key of the row; empty where it concerns a whole file.
        where: the file, below the corpus.
        detail: what was found and what was expected.
    """

    check: str
    key: str
    where: str
    detail: str

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong, and not only worth a look."""
        return self.check in FAULTS


@dataclass(slots=True)
class Findings:
    """Findings, all counted, the first `MAX_LISTED` of each check listed.

    Attributes:
        counts: findings by check.
        listed: the first ones.
    """

    counts: Counter[str] = field(default_factory=Counter)
    listed: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count a finding, and list it while there is room."""
        assert finding.check in FAULTS or finding.check in NOTES, finding.check
        self.counts[finding.check] += 1
        if self.counts[finding.check] <= MAX_LISTED:
            self.listed.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Count and list several."""
        for finding in findings:
            self.add(finding)

    def merge(self, other: Findings) -> None:
        """Take in those of another part of the corpus."""
        room = {check: MAX_LISTED - self.counts[check] for check in other.counts}
        for finding in other.listed:
            if room[finding.check] > 0:
                self.listed.append(finding)
                room[finding.check] -= 1
        self.counts.update(other.counts)

    @property
    def num_faults(self) -> int:
        """How many things are wrong."""
        return sum(count for check, count in self.counts.items() if check in FAULTS)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.listed)
