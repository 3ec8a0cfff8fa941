"""What the rules are asked about: one camera's stream, or the node and its surroundings."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..geometry import Size
from .report import Limits
from .window import LEAST, RECENT_S


@dataclass(frozen=True)
class InfoFacts:
    """
    What is known of a camera's calibration.

    :ivar topic: where its camera_info comes from.
    :ivar wanted: whether somebody subscribes to the camera_info of the mask.
    :ivar size: of the images that the calibration in use is for; None = there is none.
    :ivar problem: what is wrong with the camera_info that came, mend included; '' = nothing.
    :ivar ground_problem: why there are no ground outputs though somebody subscribes, likewise.
    :ivar lacking: why other outputs are not there though somebody subscribes, likewise.
    :ivar needed: by which preset the camera_info is needed; '' = by none.
    :ivar elsewhere: where camera_info is published, where none has come; '' = nowhere.
    """

    topic: str = ''
    wanted: bool = False
    lacking: str = ''
    needed: str = ''
    elsewhere: str = ''
    size: Size | None = None
    problem: str = ''
    ground_problem: str = ''


@dataclass(frozen=True)
class StreamFacts:
    """
    One camera at one moment; "recent" is the window of ``window.RECENT_S``.

    :ivar topic: where its images come from.
    :ivar name: the camera's name, as in its parameters.
    :ivar arrived: whether any image came since the node was activated.
    :ivar silent_s: since the last image, else since the activation.
    :ivar interval_s: median time between two images; 0 if unknown.
    :ivar images: how many recent images there are.
    :ivar age_s: their median age on arrival; 0 if unknown.
    :ivar stamps: how many of them have which fault of ``stamps.FAULTS``.
    :ivar jump_s: the largest recent jump of a stamp.
    :ivar lost: images lost on the way recently.
    :ivar lost_share: of those sent in the last seconds.
    :ivar reported_lost: what the middleware says was lost since the last image.
    :ivar decided: how many recent images were segmented or refused.
    :ivar refused: how many of them were refused.
    :ivar reason: the most frequent reason of it.
    :ivar refusal: the last error of that reason.
    :ivar dropped_share: of the recent images.
    :ivar mask_age_s: since the last mask, else since the first image; None before that.
    :ivar mask_due_s: when a mask is late, by the rhythm of camera and network.
    :ivar input_rate_hz: recent; 0 when stalled, None before the second image.
    :ivar output_rate_hz: likewise of the masks.
    :ivar image_size: of the last segmented image, None before it.
    :ivar info: what is known of its calibration.
    :ivar active_s: since the node was activated.
    :ivar state: ok, doubtful or blind; '' = not judged yet.
    :ivar state_reason: why it is not ok.
    """

    topic: str
    name: str
    limits: Limits
    arrived: bool
    silent_s: float
    interval_s: float
    images: int
    age_s: float
    stamps: Mapping[str, int]
    jump_s: float
    lost: int
    lost_share: float
    reported_lost: int
    decided: int
    refused: int
    reason: str
    refusal: str
    dropped_share: float
    mask_age_s: float | None
    mask_due_s: float
    input_rate_hz: float | None
    output_rate_hz: float | None
    image_size: Size | None
    info: InfoFacts
    active_s: float
    state: str
    state_reason: str

    @property
    def info_mend(self) -> str:
        """What to do where no camera_info has come."""
        if self.info.elsewhere:
            return (f'{self.info.elsewhere} is published: set {self.name}.camera_info_topic, or '
                    f'give {self.name}.calibration a file')
        return (f'nobody publishes any: calibrate the camera, or give {self.name}.calibration a '
                'file')

    @property
    def arriving(self) -> bool:
        """Whether images come at the moment."""
        return self.arrived and not self.late

    @property
    def ahead_s(self) -> float:
        """How far the stamps are in the future."""
        return -self.age_s

    @property
    def late(self) -> bool:
        """Whether the next image is overdue by the camera's own rhythm."""
        due_s = max(RECENT_S, LEAST * self.interval_s) if self.interval_s else (
            self.limits.image_timeout_s)
        return self.arrived and self.silent_s > due_s


@dataclass(frozen=True)
class Publishers:
    """
    What the middleware knows of the publishers of an image topic.

    :ivar count: how many there are.
    :ivar types: the message types among theirs that are not the one wanted.
    :ivar wanted: the message type that the node subscribes to.
    :ivar compatible: whether every one's quality of service fits the node's.
    :ivar sibling: the topic of the other transport, where that is published though this is not.
    :ivar elsewhere: other image topics that are published, where this is not.
    """

    count: int
    types: tuple[str, ...]
    wanted: str
    compatible: bool
    sibling: str = ''
    elsewhere: str = ''

    @property
    def transport(self) -> str:
        """The transport that the sibling is for."""
        return 'compressed' if self.sibling.endswith('/compressed') else 'raw'

    @property
    def other_transport(self) -> bool:
        """Whether what is published has the type of the other transport."""
        return self.types[:1] in (('sensor_msgs/msg/Image',), ('sensor_msgs/msg/CompressedImage',))


@dataclass(frozen=True)
class SharedMemory:
    """
    The memory that processes of one machine share, where the transport of images lies.

    :ivar size: in bytes.
    :ivar free: in bytes.
    :ivar segment: what each process that speaks or listens takes of it, in bytes.
    :ivar opened: whether this process has got its part; None = not known.
    """

    size: int
    free: int
    segment: int
    opened: bool | None = None

    @property
    def small(self) -> bool:
        """Whether it does not hold this process and another one."""
        return self.opened is not False and self.size <= 2 * self.segment

    @property
    def full(self) -> bool:
        """Whether another process would not get its part."""
        return self.opened is not False and not self.small and self.free < self.segment

    @property
    def megabytes(self) -> tuple[int, int, int]:
        """Size, free and segment in megabytes (of 1024 x 1024 bytes, as df -m counts)."""
        return self.size >> 20, self.free >> 20, self.segment >> 20


@dataclass(frozen=True)
class SurroundingFacts:
    """
    The node and its surroundings at one moment.

    :ivar name: of the node, namespace included.
    :ivar namesakes: how many nodes have this name, itself included.
    :ivar simulated: whether it follows /clock.
    :ivar clock_s: the time by the node's clock, in seconds; 0 before the first /clock.
    :ivar clock_still_s: for how long that has not moved while images arrived.
    :ivar memory: None where the transport does not use it.
    :ivar gpu_unused: why ``backend: auto`` took the CPU although a GPU is there; '' = it did not.
    """

    name: str = ''
    namesakes: int = 1
    simulated: bool = False
    clock_s: float = 0.0
    clock_still_s: float = 0.0
    memory: SharedMemory | None = None
    gpu_unused: str = ''
