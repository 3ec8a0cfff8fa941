"""Classes under other names: several as one, some not at all, as a consumer's list has them."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from .schema import suggestion
from .taxonomy import ClassTable, GroupedTable, SegClass, UNLABELLED

#: In place of a name: the class is 255, unlabelled.
DROP = 'drop'


@dataclass(frozen=True)
class Grouping:
    """
    How the classes of a table are to be grouped.

    :ivar names: for every class the name of its group, or ``DROP``.
    :ivar name: of the table of groups.
    :ivar where: the file and key that it stands in, for messages.
    """

    names: Mapping[str, str]
    name: str
    where: str

    def applied(self, base: ClassTable) -> GroupedTable:
        """
        Return the table of groups, numbered in the order in which ``names`` has them.

        A group has the colour of its first class, and is drivable, dynamic or ground where all of
        its classes are.

        :raises ConfigError: a class that ``base`` does not have, or one that is not listed.
        """
        self._check(base)
        members: dict[str, list[SegClass]] = {}
        for entry, target in self.names.items():
            if target != DROP:
                members.setdefault(target, []).append(base.classes[base.names.index(entry)])
        if not members:
            raise ConfigError(f'{self.where} drops every class of {base.name}: give at least one '
                              'a name.')
        classes = tuple(
            SegClass(index, target, found[0].colour, all(item.drivable for item in found),
                     all(item.dynamic for item in found), all(item.ground for item in found))
            for index, (target, found) in enumerate(members.items()))
        order = {target: index for index, target in enumerate(members)}
        return GroupedTable(self.name, classes, base, tuple(
            order.get(self.names.get(entry, DROP), UNLABELLED) for entry in base.names))

    def _check(self, base: ClassTable) -> None:
        for entry in self.names:
            if entry not in base.names:
                raise ConfigError(f'{self.where}: {entry!r} is not a class of {base.name}.'
                                  f'{suggestion(entry, base.names)} Its classes: '
                                  f'{", ".join(base.names)}. Name these, or set taxonomy to the '
                                  'table that is meant.')
        if missing := [entry.name for entry in base.classes
                       if entry.name not in self.names and not entry.void]:
            raise ConfigError(f'{self.where} does not say what becomes of {", ".join(missing)} '
                              f'of {base.name}: add a name for each, or {DROP}.')
