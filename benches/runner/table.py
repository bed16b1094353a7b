"""Turns results into the printed tables: what each contender did, and each bar's ratio round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .contenders import BARS, Bar
from .race import DISTURBED_CPUS, Result


@dataclass(frozen=True)
class Verdict:
    """A bar and what came of it; `ratios` has one entry a round. In `calm` rounds nobody else was busy beside either side."""

    bar: Bar
    baseline: str
    ratios: list[float]
    calm: int

    @property
    def median(self) -> float:
        """The middle one: what the bar is judged by."""
        return median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """None when there is no bar, only a ratio."""
        if self.bar.factor is None:
            return None
        return self.median >= self.bar.factor if self.bar.figure == "rate" else self.median <= self.bar.factor

    @property
    def best(self) -> float:
        """The ratio that speaks most for the contender."""
        return max(self.ratios) if self.bar.figure == "rate" else min(self.ratios)

    def to_dict(self) -> dict[str, object]:
        """For the file of results."""
        return {
            "what": self.bar.what,
            "contender": self.bar.contender,
            "baseline": self.baseline,
            "ratios": self.ratios,
            "median_ratio": self.median,
            "best_ratio": self.best,
            "calm_rounds": self.calm,
            "bar": self.bar.factor,
            "reached": self.reached,
        }


def verdicts(results: Sequence[Result]) -> tuple[list[Verdict], list[Bar]]:
    """Every bar that could be measured, and those that could not because somebody did not run."""
    runs: dict[str, dict[int, Result]] = {}
    for result in results:
        runs.setdefault(result.contender, {})[result.round] = result
    measured, missing = [], []
    for bar in BARS:
        there = [name for name in bar.baselines if name in runs]
        ours = runs.get(bar.contender, {})
        if bar.ideal is not None and ours:
            ratios = [result.rate / bar.ideal for _, result in sorted(ours.items())]
            measured.append(Verdict(bar, "ideal", ratios, sum(r.others_cpus <= DISTURBED_CPUS for r in ours.values())))
            continue
        baseline = max(there, key=lambda name: median(result.rate for result in runs[name].values()), default="")
        both = sorted(ours.keys() & runs.get(baseline, {}).keys())
        if not both or len(there) != len(bar.baselines):
            missing.append(bar)
            continue
        pairs = [(ours[number], runs[baseline][number]) for number in both]
        calm = sum(max(mine.others_cpus, theirs.others_cpus) <= DISTURBED_CPUS for mine, theirs in pairs)
        ratios = [mine.figure(bar.figure) / theirs.figure(bar.figure) for mine, theirs in pairs]
        measured.append(Verdict(bar, baseline, ratios, calm))
    return measured, missing


def contenders_table(results: Sequence[Result]) -> str:
    """One line a contender."""
    rows = [["contender", "best rec/s", "median rec/s", "CPU s per million", "best", "other CPUs busy"]]
    for name in dict.fromkeys(result.contender for result in results):
        mine = [result for result in results if result.contender == name]
        rows.append(
            [
                name,
                f"{max(r.rate for r in mine):,.0f}",
                f"{median(r.rate for r in mine):,.0f}",
                f"{median(r.cpu_per_million for r in mine):.3f}",
                f"{min(r.cpu_per_million for r in mine):.3f}",
                f"{median(r.others_cpus for r in mine):.2f}",
            ]
        )
    return _aligned(rows)


def bars_table(found: Sequence[Verdict], missing: Sequence[Bar], judged: bool) -> str:
    """One line a bar; what was measured over too few records is not `judged`."""
    rows = [["bar", "baseline", "median ratio", "best", "per round", "calm", "bar", ""]]
    for verdict in found:
        rows.append(
            [
                verdict.bar.what,
                verdict.baseline,
                f"{verdict.median:.2f}",
                f"{verdict.best:.2f}",
                " ".join(f"{ratio:.2f}" for ratio in verdict.ratios),
                f"{verdict.calm}/{len(verdict.ratios)}",
                "-" if verdict.bar.factor is None else f"{verdict.bar.factor:.2f}",
                {None: "", True: "reached", False: "NOT REACHED"}[verdict.reached if judged else None],
            ]
        )
    rows += [
        [bar.what, " ".join(bar.baselines[:1]), "-", "-", "", "", f"{bar.factor:.2f}" if bar.factor else "-", "not measured"]
        for bar in missing
    ]
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: text to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if any(c.isalpha() for r in rows[1:] for c in r[column]) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
