"""What all tests share."""

import os

# Nothing in the tests may wait for a network: all they need ships with the package.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Tokens compared with plain DacModel's, tokens different, ties, for the lines at the end of a run.
TOKEN_COUNTS: dict[str, list[int]] = {}


def pytest_terminal_summary(terminalreporter) -> None:
    """Print how many tokens were compared with plain `DacModel`, and how many differed."""
    if not TOKEN_COUNTS:
        return
    terminalreporter.section("tokens compared with DacModel.encode, one clip alone, float32, CPU")
    totals = [sum(column) for column in zip(*TOKEN_COUNTS.values(), strict=True)]
    for name, (compared, different, ties) in [*sorted(TOKEN_COUNTS.items()), ("all", totals)]:
        terminalreporter.write_line(
            f"{name:>10}: {compared:>9,} tokens, {different} different ({ties} ties in rounding)"
        )
