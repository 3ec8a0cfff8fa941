"""Where the package's own files (models/, calibration/, config/, rviz/) and its cache lie."""

import os
from pathlib import Path
import sys

from .errors import ConfigError

PACKAGE = 'seg_node'


def _roots() -> list[Path]:
    """Return the folders that may hold the shared files: ament, prefix, source tree."""
    roots = []
    try:
        from ament_index_python.packages import get_package_share_directory
        roots.append(Path(get_package_share_directory(PACKAGE)))
    except Exception:  # no ament index here, or the package is not in it: both are normal
        pass
    roots.append(Path(sys.prefix) / 'share' / PACKAGE)
    roots.append(Path(__file__).resolve().parents[1])
    return roots


def shared(*parts: str) -> Path:
    """
    Return the path of a file or folder that the package ships.

    :param parts: path below the share folder, e.g. ``'models', 'classes', 'camvid.yaml'``.
    :raises ConfigError: when no installation of the package holds it.
    """
    tried = [root.joinpath(*parts) for root in _roots()]
    for path in tried:
        if path.exists():
            return path
    raise ConfigError(f'{"/".join(parts)} is not part of this installation of {PACKAGE}; looked '
                      f'at {", ".join(map(str, tried))}. Reinstall the package.')


def cache_root() -> Path:
    """Return the folder of what is kept between runs: ``$SEG_NODE_CACHE``, else the home's."""
    value = os.environ.get('SEG_NODE_CACHE', '')
    return Path(value).expanduser() if value else Path.home() / '.cache' / 'seg_node'
