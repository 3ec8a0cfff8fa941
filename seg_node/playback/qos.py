"""Quality of service: of what is sent, of what is listened to, and as bags store it."""

from collections.abc import Sequence

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from .sources import Topic

IMAGE_DEPTH = 5
DEPTH = 10
LISTENING_DEPTH = 50
_MAX_LATCHED = 1000


def sending_qos(topic: Topic) -> QoSProfile:
    """Return a QoS that every kind of subscriber accepts: reliable, latched where recorded so."""
    if topic.latched:  # one sender stands in for all recorded ones: keep all their messages
        return QoSProfile(depth=min(max(topic.count or 1, 1), _MAX_LATCHED),
                          reliability=ReliabilityPolicy.RELIABLE,
                          durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=IMAGE_DEPTH if topic.is_image else DEPTH,
                      reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.VOLATILE)


def listening_qos(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """Return the strictest QoS that hears all of some publishers."""
    reliable = all(one.qos_profile.reliability == ReliabilityPolicy.RELIABLE
                   for one in publishers)
    latched = all(one.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                  for one in publishers)
    return QoSProfile(
        depth=LISTENING_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


def recorded_qos(offered: QoSProfile) -> Qos:
    """Return an offered QoS as a bag stores it."""
    return Qos(QosHistory(offered.history.value), offered.depth,
               QosReliability(offered.reliability.value), QosDurability(offered.durability.value),
               _time(offered.deadline), _time(offered.lifespan),
               QosLiveliness(offered.liveliness.value),
               _time(offered.liveliness_lease_duration),
               offered.avoid_ros_namespace_conventions)


def _time(duration: Duration) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))
