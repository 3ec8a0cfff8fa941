"""Keeps the ROS 2 traffic of a run away from all others on the machine."""

import random
import socket

from ..errors import SegNodeError

#: Up to here the ports of a domain are below the range that Linux hands out to clients.
_LAST = 101


def reserve_domain() -> tuple[int, socket.socket]:
    """
    Return a ROS_DOMAIN_ID that no other run has reserved, and what holds it until closed.

    An abstract socket's name is taken by one process at a time and free when that one ends.

    :raises SegNodeError: when all are taken.
    """
    for domain in random.sample(range(1, _LAST + 1), _LAST):
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f'\0seg_node_domain_{domain}')
        except OSError:
            reservation.close()
        else:
            return domain, reservation
    raise SegNodeError(f'all {_LAST} ROS domains are taken by other runs: end some')
