"""Order of the clips, and figures by column, from clips made up."""

from dac_tokenize.audit.clips import ClipAudit, worst_first
from dac_tokenize.audit.findings import Finding
from dac_tokenize.audit.levels import Levels
from dac_tokenize.audit.metrics import Quality
from dac_tokenize.audit.sampling import Pick
from dac_tokenize.audit.summary import MAX_GROUPS, by_column, quality_by_codebooks


def clip(number, score=5.0, agreement=1.0, findings=(), **metadata):
    return ClipAudit(
        pick=Pick(0, 0, number, f"clip{number}"),
        duration_seconds=2.0,
        source_uri="a.wav",
        offset_seconds=0.0,
        channel=None,
        metadata=metadata,
        quality={1: Quality(score - 3, 9.0, 2.0), 4: Quality(score, 8.0, 1.0)},
        agreement=(agreement,) * 4,
        stability=(0.5,) * 4,
        levels=Levels(0.5, -20.0, 0.0, 0),
        findings=tuple(Finding(check, f"clip{number}", "", "") for check in findings),
    )


def test_the_worst_come_first():
    clips = [
        clip(0, 9.0),
        clip(1, 1.0),
        clip(2, 20.0, agreement=0.1),
        clip(3, 20.0, findings=["fidelity"]),
        clip(4, float("nan")),
        clip(5, 9.0, findings=["silence"]),
    ]
    told = Finding("codes", "clip0", "", "by the checks of all rows")
    ordered = worst_first(clips, [told])
    assert [one.pick.row for one in ordered] == [0, 3, 2, 1, 5, 4]
    assert ordered[0].findings == (told,)


def test_quantiles_by_column():
    clips = [
        clip(number, score=float(number), language="de" if number < 6 else None, text=str(number))
        for number in range(10)
    ]
    tables = by_column(clips)
    assert set(tables) == {"language"}  # each clip has a text of its own
    german, unknown = tables["language"]
    assert (german["value"], german["clips"], german["seconds"]) == ("de", 6, 12.0)
    assert german["si_sdr_db"]["median"] == 2.5
    assert (unknown["value"], unknown["clips"]) == ("", 4)
    assert unknown["si_sdr_db"]["q95"] > unknown["si_sdr_db"]["q05"] > 6.0
    assert (german["agreement"], german["stability"]) == (1.0, 0.5)
    assert "stoi" not in german


def test_of_many_values_the_most_frequent_are_told():
    clips = [clip(number, speaker=f"s{number % 70:02d}") for number in range(150)]
    groups = by_column(clips)["speaker"]
    assert len(groups) == MAX_GROUPS
    assert [group["clips"] for group in groups[:11]] == [3] * 10 + [2]
    assert by_column([clip(number, tags=["a"]) for number in range(4)]) == {}


def test_quality_by_number_of_codebooks():
    rows = quality_by_codebooks([clip(number, score=float(number)).quality for number in range(3)])
    assert [row["codebooks"] for row in rows] == [1, 4]
    assert [row["si_sdr_db"]["median"] for row in rows] == [-2.0, 1.0]
