"""From each machine to each other: the path it would take, none, or unknown.

Fewest hops over the pairs that are up; among those the path that comes first by the names on it. There is no route (None)
if there is none even were every pair up that is unknown or not covered; else, without a path over pairs that are up, it
is `"unknown"`. In a full mesh nearly every route is the direct one, so a direct pair is answered at once and a search
is made only from machines that miss one, once each: breadth first, neighbours by name, so that the first path found is
the one that is asked for. Pure; it knows pairs, not links.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

UNKNOWN: Final = "unknown"
Path = tuple[str, ...]
Route = Path | Literal["unknown"] | None


class RouteTable(Mapping[tuple[str, str], Route]):
    """The routes among `machines`. `up`: pairs that are up; `maybe`: pairs that may be (unknown or uncovered).

    A mapping from (from, to) to a path with both ends, None, or `"unknown"`. Equal if all routes are.
    """

    __slots__ = ("_islands", "_maybe", "_names", "_near", "_paths")

    def __init__(self, machines: Iterable[str], up: Iterable[tuple[str, str]], maybe: Iterable[tuple[str, str]] = ()) -> None:
        self._names = sorted(set(machines))
        self._near: dict[str, set[str]] = {name: set() for name in self._names}
        self._maybe = list(maybe)
        self._paths: dict[str, dict[str, Path]] = {}
        self._islands: dict[str, str] | None = None
        for a, b in up:
            if a in self._near and b in self._near and a != b:
                self._near[a].add(b)
                self._near[b].add(a)

    def __getitem__(self, pair: tuple[str, str]) -> Route:
        start, goal = pair
        if start == goal:
            raise KeyError(pair)
        if goal in self._near[start]:
            return pair
        path = self._from(start).get(goal)
        if path is not None:
            return path
        islands = self._reach()
        return UNKNOWN if islands[start] == islands[goal] else None

    def as_dict(self) -> dict[tuple[str, str], Route]:
        """All routes at once: what `dict(table)` gives, with less ado."""
        found: dict[tuple[str, str], Route] = {}
        for start in self._names:
            near = self._near[start]
            for goal in self._names:
                if goal in near:
                    found[start, goal] = (start, goal)
                elif goal != start:
                    found[start, goal] = self[start, goal]
        return found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((a, b) for a in self._names for b in self._names if a != b)

    def __len__(self) -> int:
        return len(self._names) * (len(self._names) - 1)

    def __repr__(self) -> str:
        return f"RouteTable({self.as_dict()!r})"

    def _from(self, start: str) -> dict[str, Path]:
        """The best path from `start` to each machine it reaches over pairs that are up."""
        paths = self._paths.get(start)
        if paths is None:
            paths = {start: (start,)}
            queue = [start]
            missing = len(self._names) - 1
            for name in queue:
                if not missing:
                    break
                path = paths[name]
                for near in sorted(self._near[name] - paths.keys()):
                    paths[near] = (*path, near)
                    queue.append(near)
                    missing -= 1
            self._paths[start] = paths
        return paths

    def _reach(self) -> dict[str, str]:
        """For each machine one that stands for all it could reach at best (union-find, path halving)."""
        if self._islands is None:
            root = {name: name for name in self._names}

            def find(name: str) -> str:
                while root[name] != name:
                    root[name] = name = root[root[name]]
                return name

            for a, nears in self._near.items():
                for b in nears:
                    root[find(a)] = find(b)
            for a, b in self._maybe:
                if a in root and b in root:
                    root[find(a)] = find(b)
            self._islands = {name: find(name) for name in self._names}
        return self._islands
