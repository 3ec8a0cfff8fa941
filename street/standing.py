"""What stands on the ground and never moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .building import Building
from .canvas import Canvas
from .foliage import Tree
from .mesh import Mesh
from .props import Prop


class Item(Protocol):
    """Something that stands on the ground and draws itself."""

    @property
    def footprint(self) -> np.ndarray:
        """(4, 2) world corners of its outline on the ground, counter-clockwise."""
        ...

    @property
    def height(self) -> float:
        """Metres to its highest point."""
        ...

    @property
    def spread(self) -> float:
        """Metres by which it is wider than its footprint."""
        ...

    @property
    def solid(self) -> float:
        """Metres up to which it lets nothing through."""
        ...

    @property
    def mesh(self) -> Mesh | None:
        """Its untextured part in the world, drawn after :meth:`paint`."""
        ...

    @property
    def sunlit(self) -> float:
        """How much sun reaches it, 0..1."""
        ...

    def paint(self, canvas: Canvas) -> None:
        """Draw its textured part."""
        ...


@dataclass(frozen=True, eq=False)
class Standing:
    """
    All that stands along a road.

    :ivar walls: high enough at the road's edge for their shadows to matter.
    :ivar low: boundaries and banks, whose shadows don't.
    """

    buildings: Sequence[Building]
    walls: Sequence[Item]
    low: Sequence[Item]
    trees: Sequence[Tree]
    posts: Sequence[Prop]
    vehicles: Sequence[Prop]

    def items(self) -> list[Item]:
        """Return all of it."""
        return [*self.buildings, *self.walls, *self.low, *self.trees, *self.posts,
                *self.vehicles]
