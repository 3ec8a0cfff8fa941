"""How the views of the cameras are arranged in Rerun."""

from collections.abc import Sequence
from typing import Any

try:
    import rerun.blueprint as rrb
except ImportError:
    rrb = None

from .stream import TIMELINE


def layout(cameras: Sequence[str], ground: bool = False) -> Any:
    """Return the arrangement: a tab for each camera, the diagnostics below."""
    tabs = [_camera(camera, ground) for camera in cameras]
    shown = tabs[0] if len(tabs) == 1 else rrb.Tabs(*tabs)
    return rrb.Blueprint(
        rrb.Vertical(shown, rrb.Horizontal(
            rrb.TextDocumentView(origin='diagnostics/now', name='diagnostics'),
            rrb.TextLogView(origin='/', contents=['diagnostics/said', '*/state/**'],
                            name='what was said'),
            column_shares=[2, 1]), row_shares=[3, 1]),
        rrb.TimePanel(state='collapsed', timeline=TIMELINE, play_state='following'),
        rrb.SelectionPanel(state='collapsed'), rrb.BlueprintPanel(state='collapsed'))


def _camera(camera: str, ground: bool) -> Any:
    def picture(*names: str, title: str) -> Any:
        return rrb.Spatial2DView(origin=camera, contents=[f'$origin/{name}' for name in names],
                                 name=title)
    right = [rrb.TimeSeriesView(origin=f'{camera}/ms', name='ms'),
             rrb.TimeSeriesView(origin=f'{camera}/hz', name='Hz')]
    if ground:
        right.insert(0, rrb.Spatial3DView(origin=f'{camera}/ground', name='ground'))
    return rrb.Horizontal(
        rrb.Vertical(picture('image', 'mask', title=f'{camera}: classes'),
                     picture('image', 'drivable', title='drivable')),
        rrb.Vertical(picture('confidence', title='confidence'), *right),
        column_shares=[1, 1], name=camera)
