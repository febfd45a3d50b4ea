"""What all tests share."""

import os

import pytest

# Nothing in the tests may wait for a network: all they need ships with the package.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# No emulator speaks the protocol by which gcsfs asks what kind of bucket it has.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

# What a run prints at its end. Under pytest-xdist tests run in workers, whose figures travel
# to the process that prints.
TOKEN_COUNTS: dict[str, list[int]] = {}  # shape -> tokens compared with DacModel, different, ties
FIGURES: list[str] = []


@pytest.fixture
def report():
    """Say something at the end of the run."""
    return FIGURES.append


def pytest_sessionfinish(session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = [TOKEN_COUNTS, FIGURES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    counts, figures = getattr(node, "workeroutput", {}).get("figures", [{}, []])
    for name, count in counts.items():
        before = TOKEN_COUNTS.get(name, [0, 0, 0])
        TOKEN_COUNTS[name] = [a + b for a, b in zip(before, count, strict=True)]
    FIGURES.extend(figures)


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what tests reported, and how many tokens were compared with plain `DacModel`."""
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)
    if not TOKEN_COUNTS:
        return
    terminalreporter.section("tokens compared with DacModel.encode, one clip alone, float32, CPU")
    totals = [sum(column) for column in zip(*TOKEN_COUNTS.values(), strict=True)]
    for name, (compared, different, ties) in [*sorted(TOKEN_COUNTS.items()), ("all", totals)]:
        terminalreporter.write_line(
            f"{name:>10}: {compared:>9,} tokens, {different} different ({ties} ties in rounding)"
        )
