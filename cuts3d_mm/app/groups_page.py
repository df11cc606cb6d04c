"""Make the page of `cuts3d browse-labels --groups`: name, merge, split and drop groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import gradio
import numpy as np

from cuts3d_mm.algorithm.grouping import split_group
from cuts3d_mm.arrays import Index, Pixels
from cuts3d_mm.files.remote import Place
from cuts3d_mm.labels.naming import (
    GROUPS_FILE,
    NAMES_FILE,
    VECTORS_FILE,
    LabelsDigest,
    Member,
    Operation,
    StoredGroups,
    apply,
    read_operations,
    require_labels,
    write_operations,
)
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.visualization.contact_sheets import COLUMNS, choose_shown, draw_tiles, join_tiles

from .server import make_gallery, make_page, messages

_MOST_TILES = 4_000  # pictures of instances that are kept, 48 kB each
_ROW = 6  # instances of a group that stand side by side
_INTRODUCTION = (
    '# Groups\nClick a group to see its instances, the most typical first, then its edge cases. '
    'Name it, merge it into another, split it, or drop it if it holds no objects; click an '
    'instance to choose it, and move it. Every change is written at once, and **Undo** takes the '
    'last change back.'
)


def build_groups_page(browser: GroupBrowser) -> gradio.Blocks:
    """Build the page, to be launched."""
    page = make_page('Groups')
    with page:
        gradio.Markdown(_INTRODUCTION)
        status = gradio.Textbox(label='Named', elem_id='status', interactive=False)
        groups = make_gallery(3, 'groups', label='Groups')
        with gradio.Row():
            one = gradio.Dropdown(label='Group', elem_id='group')
            name = gradio.Textbox(label='Name', elem_id='name')
            into = gradio.Dropdown(label='Into', elem_id='into')
        with gradio.Row():
            buttons = {
                key: gradio.Button(text, elem_id=key, min_width=90)
                for key, text in (
                    ('set-name', 'Name'),
                    ('merge', 'Merge'),
                    ('split', 'Split'),
                    ('drop', 'Drop'),
                    ('move', 'Move the chosen'),
                    ('undo', 'Undo'),
                )
            }
        instances = make_gallery(COLUMNS, 'instances', label='Instances')
        chosen = gradio.State([])  # places of the instances to move
        views = [status, groups, one, into, name, instances, chosen]

        def show(*wanted: int | None) -> list[Any]:
            numbers = browser.numbers()
            group = next((one for one in wanted if one in numbers), numbers[0])
            choices = [(browser.title(number), number) for number in numbers]
            return [
                browser.status(),
                gradio.Gallery(browser.strips(numbers), selected_index=None),
                gradio.Dropdown(choices, value=group),
                gradio.Dropdown(choices, value=None),
                browser.naming.names.get(group, ''),
                gradio.Gallery(browser.tiles(group, []), selected_index=None),
                [],
            ]

        def change(make: Callable[..., Operation | None]) -> Callable[..., list[Any]]:
            @messages()
            def run(group: int, name: str, into: int | None, chosen: list[int]) -> list[Any]:
                browser.change(make(group, name, into, chosen))
                return show(group, into)

            return run

        makers: dict[str, Callable[..., Operation | None]] = {
            'set-name': lambda group, name, into, chosen: {'name': group, 'as': name},
            'merge': lambda group, name, into, chosen: {'merge': group, 'into': into},
            'split': lambda group, name, into, chosen: browser.split(group),
            'drop': lambda group, name, into, chosen: {'drop': group},
            'move': lambda group, name, into, chosen: {
                'move': [list(browser.groups.members[place]) for place in chosen],
                'into': into,
            },
            'undo': lambda *_: None,
        }
        for key, make in makers.items():
            buttons[key].click(change(make), [one, name, into, chosen], views)

        @messages()
        def open_group(event: gradio.SelectData) -> list[Any]:
            return show(browser.numbers()[event.index])

        @messages()
        def choose(group: int, chosen: list[int], event: gradio.SelectData) -> Any:
            place = int(browser.shown(group)[event.index])
            chosen = [one for one in chosen if one != place] + [place] * (place not in chosen)
            return gradio.Gallery(browser.tiles(group, chosen), selected_index=None), chosen

        groups.select(open_group, None, views)
        one.input(show, one, views)
        instances.select(choose, [one, chosen], [instances, chosen])
        page.load(lambda: show(), None, views)
    return page


class GroupBrowser:
    """Groups of labels, and the operations on them, which are written at once.

    Args:
        labels: label store that was grouped.
        images: folder that was labelled.
        folder: folder that `cuts3d group` has written; operations go to its `names.json`.

    Raises:
        ValueError: the labels are not those that were grouped, or a file cannot be read.
    """

    def __init__(self, labels: Place, images: Place, folder: Path) -> None:
        self.path = folder / NAMES_FILE
        self.groups = StoredGroups.read(folder / GROUPS_FILE)
        try:
            self._vectors = np.load(folder / VECTORS_FILE, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f'{folder / VECTORS_FILE} is damaged: run cuts3d group again'
            ) from error
        digest = LabelsDigest()
        for record in read_store(labels):
            digest.add(record)
        require_labels(digest, self.groups)
        self._table, self._images = LabelTable(labels), images
        counts = {len(self._vectors), int(self._table.num_instances.sum())}
        if counts != {len(self.groups.group)} or not (self.groups.group >= 0).any():
            raise ValueError(
                f'{folder} must hold the groups of {len(self.groups.group)} instances that cover '
                'something; run cuts3d group again'
            )
        self._numbers = {name: number for number, name in enumerate(self._table.names())}
        self._lock, self._tiles = Lock(), dict[Member, Pixels]()
        self.naming = apply(read_operations(self.path), self.groups)

    def change(self, operation: Operation | None) -> None:
        """Append an operation, or take the last one back (None), and write all if all is right."""
        with self._lock:  # pages may be clicked at the same time
            operations = read_operations(self.path)
            operations = operations[:-1] if operation is None else [*operations, operation]
            naming = apply(operations, self.groups)
            write_operations(self.path, operations)
            self.naming = naming

    def split(self, group: int) -> Operation:
        """Make the operation that divides a group in two."""
        places = np.flatnonzero(self.naming.group == group)
        if len(places) < 2:
            raise ValueError(f'a group must have two instances to be split, {group} has one')
        part = places[split_group(self._vectors[places])]
        return {'split': group, 'members': [list(self.groups.members[one]) for one in part]}

    def numbers(self) -> list[int]:
        """List the groups that have instances and were not dropped, the largest first."""
        found, counts = np.unique(self.naming.group, return_counts=True)
        order = np.argsort(-counts, kind='stable')
        kept = [one for one in found[order].tolist() if one >= 0]
        return [one for one in kept if one not in self.naming.dropped] or kept

    def title(self, group: int) -> str:
        """Describe a group in a line."""
        count = int((self.naming.group == group).sum())
        return f'{group}: {self.naming.names.get(group, "?")} ({count})'

    def status(self) -> str:
        """Say how far the naming has come."""
        classes = [self.naming.class_of(one) for one in self.naming.group.tolist()]
        named = [one for one in classes if one is not None]
        found = f'{len(named)} of {len(classes)} instances have a name'
        return f'{found}, names: {len(set(named))}, in {self.path}'

    def shown(self, group: int) -> Index:
        """Places of the instances of a group that are shown, the most typical first."""
        places = np.flatnonzero(self.naming.group == group)
        vectors = self._vectors[places]
        distance = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
        return np.concatenate(choose_shown(places, distance))

    def strips(self, groups: list[int]) -> list[tuple[Pixels, str]]:
        """Draw the most typical instances of each group side by side, with its title."""
        places = [self.shown(group)[:_ROW].tolist() for group in groups]
        tiles = self._draw([place for row in places for place in row])
        rows = [join_tiles([tiles[place] for place in row], _ROW) for row in places]
        return list(zip(rows, map(self.title, groups), strict=True))

    def tiles(self, group: int, chosen: list[int]) -> list[tuple[Pixels, str]]:
        """Draw the instances of a group that are shown, each with its caption."""
        places = self.shown(group).tolist()
        tiles = self._draw(places)
        marks = ['CHOSEN: ' if place in chosen else '' for place in places]
        return [
            (tiles[place], mark + self.groups.members[place][0])
            for place, mark in zip(places, marks, strict=True)
        ]

    def _draw(self, places: list[int]) -> dict[int, Pixels]:
        members = {place: self.groups.members[place] for place in places}
        if len(self._tiles) > _MOST_TILES:
            self._tiles = {}
        missing = set(members.values()) - self._tiles.keys()
        names = sorted({name for name, _ in missing})
        records = (self._table[self._numbers[name]] for name in names)
        self._tiles |= draw_tiles(records, self._images, missing)
        return {place: self._tiles[member] for place, member in members.items()}
