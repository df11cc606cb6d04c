"""How much of the time of a staged run its stages work side by side, by its trace.

cuts3d generate CONFIG IMAGES OUT --devices cpu:0 --workers 1 --profile trace.json
python benchmarks/overlap.py trace.json
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Interval = tuple[float, float]  # start and end, s
FOLLOWING = ('cut', 'refine', 'encode', 'unpack')  # stages that need no network


def main() -> None:
    """Print seconds of the stages, of the run, and of both sides at the same time."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'trace', type=Path, metavar='FILE', help='trace that --profile has written'
    )
    intervals = read_intervals(json.loads(parser.parse_args().trace.read_text()))
    extract = union(intervals['extract'])
    following = union(one for stage in FOLLOWING for one in intervals[stage])
    both = common(extract, following)
    whole = union(one for stage in intervals.values() for one in stage)
    run_s = whole[-1][1] - whole[0][0]
    for name, found in (('extract', extract), ('cut and refine', following), ('both', both)):
        print(f'{name:15s}{length(found):8.2f} s{length(found) / run_s:8.1%} of {run_s:.2f} s')
    least = min(length(extract), length(following))
    print(f'{length(both) / least:.1%} of the shorter side has the other one at work')


def read_intervals(events: list[dict[str, Any]]) -> dict[str, list[Interval]]:
    """Intervals of each stage, in the order of the trace."""
    found: dict[str, list[Interval]] = defaultdict(list)
    for event in events:
        start_s = event['ts'] / 1e6
        found[event['name']].append((start_s, start_s + event['dur'] / 1e6))
    return found


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Merge intervals that overlap; in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def common(ours: list[Interval], theirs: list[Interval]) -> list[Interval]:
    """Parts that are in both of two unions."""
    pairs = ((max(a[0], b[0]), min(a[1], b[1])) for a in ours for b in theirs)
    return [(start, end) for start, end in pairs if start < end]


def length(intervals: Iterable[Interval]) -> float:
    """Sum of the lengths, s."""
    return sum(end - start for start, end in intervals)


if __name__ == '__main__':
    main()
