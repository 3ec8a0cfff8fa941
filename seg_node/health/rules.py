"""
The rules by which health is judged: what holds, how bad it is, what is said, and the mend.

Every one that holds is said, the worst first. Run as a program (``python -m
seg_node.health.rules``) it prints the tables of docs/diagnostics.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import re
from typing import Generic, TypeVar

from .facts import Publishers, StreamFacts, SurroundingFacts
from .report import Level
from .stamps import BACK, FORWARD, JUMP_S, REPEATED, ZERO
from .window import FIGURES_S, LEAST, RECENT_S

Facts = TypeVar('Facts')

_DROPPED_MOST = 0.8  # a camera of up to five times the network's rate is by design
_LOST_MANY = 0.05
_LONG_AGO_S = 60.0
_CLOCK_STILL_S = 1.0


@dataclass(frozen=True)
class Rule(Generic[Facts]):
    """
    One thing to complain about.

    :ivar condition: when it holds, for people.
    :ivar when: the same, asked of the facts.
    :ivar message: what is wrong; a format of the facts ``f``.
    :ivar mend: what to do about it, likewise; '' where causes are told apart.
    """

    name: str
    level: Level
    condition: str
    when: Callable[[Facts], bool]
    message: str
    mend: str

    def text(self, facts: Facts) -> str:
        """Return message and mend with the facts put in."""
        whole = f'{self.message}: {self.mend}' if self.mend else self.message
        return whole.format(f=facts)


CAMERA: tuple[Rule[StreamFacts], ...] = (
    Rule('silent', Level.STALE, 'nothing for `image_timeout_s`',
         lambda f: f.arrived and f.silent_s > f.limits.image_timeout_s,
         'no image on {f.topic} for {f.silent_s:.1f} s', ''),
    Rule('never', Level.ERROR, 'nothing for `image_timeout_s` since the node is active',
         lambda f: not f.arrived and f.silent_s > f.limits.image_timeout_s,
         'no image on {f.topic} for {f.silent_s:.1f} s', ''),
    Rule('refused_mostly', Level.ERROR, 'half of the images or more, at least two',
         lambda f: _mostly_refused(f),
         '{f.refused} of {f.decided} images refused, mostly for {f.reason}', '{f.refusal}'),
    Rule('no_mask', Level.ERROR, 'as below, and for `image_timeout_s`',
         lambda f: _mask_overdue_s(f) > f.limits.image_timeout_s,
         'images arrive but there has been no mask for {f.mask_age_s:.1f} s',
         'the network hangs or is too slow: see the status of the node'),
    Rule('stamps_frozen', Level.ERROR, f'all images, at least {LEAST}',
         lambda f: LEAST <= f.images == f.stamps.get(REPEATED),
         'the stamps of the last {f.images} images are the same',
         'the driver sends one image again and again, or stamps all alike: restart it'),
    Rule('blind', Level.ERROR, 'state blind, see docs/trust.md',
         lambda f: f.arriving and f.state == 'blind', 'blind: {f.state_reason}', ''),
    Rule('late', Level.WARN, f'nothing for {RECENT_S} s and for {LEAST} times the usual interval',
         lambda f: f.late and f.silent_s <= f.limits.image_timeout_s,
         'no image for {f.silent_s:.1f} s, before that every {f.interval_s:.2f} s',
         'the camera or its driver stalls, or images are lost on the way'),
    Rule('doubtful', Level.WARN, 'state doubtful, see docs/trust.md',
         lambda f: f.arriving and f.state == 'doubtful', 'doubtful: {f.state_reason}', ''),
    Rule('refused', Level.WARN, 'any image',
         lambda f: f.refused > 0 and not _mostly_refused(f),
         '{f.refused} of {f.decided} images refused, for {f.reason}', '{f.refusal}'),
    Rule('mask_late', Level.WARN,
         f'none for {RECENT_S} s and for {LEAST} times the usual interval of images and masks',
         lambda f: 0 < _mask_overdue_s(f) <= f.limits.image_timeout_s,
         'images arrive but there has been no mask for {f.mask_age_s:.1f} s',
         'the network takes longer than it did: is something else using the device?'),
    Rule('overload', Level.WARN,
         f'more than {_DROPPED_MOST:.0%}: a camera of up to five times the rate is by design',
         lambda f: f.arriving and f.dropped_share > _DROPPED_MOST and bool(f.output_rate_hz),
         '{f.dropped_share:.0%} of the images dropped, the network gives '
         '{f.output_rate_hz:.1f} Hz of {f.input_rate_hz:.1f} Hz',
         'set the camera to {f.output_rate_hz:.1f} Hz, or take a smaller model, a faster device '
         'or fewer cameras'),
    Rule('slow', Level.WARN, 'fewer masks than `min_rate_hz`',
         lambda f: f.output_rate_hz is not None and f.output_rate_hz < f.limits.min_rate_hz,
         'segmented at {f.output_rate_hz:.1f} Hz, below min_rate_hz {f.limits.min_rate_hz:g}',
         'take a smaller model, a faster device or fewer cameras'),
    Rule('lost', Level.WARN, f'{_LOST_MANY:.0%} or more of {FIGURES_S:g} s, and just now',
         lambda f: f.lost > 0 and f.lost_share >= _LOST_MANY,
         '{f.lost_share:.0%} of the images lost on the way',
         'set the shared-memory profile for the driver, too; over a network take transport '
         'compressed (docs/troubleshooting.md)'),
    Rule('stamps_zero', Level.WARN, 'any image', lambda f: f.stamps.get(ZERO, 0) > 0,
         'the stamps of {f.stamps[zero]} of {f.images} images are zero',
         'the driver must stamp its images when they are taken'),
    Rule('stamps_repeated', Level.WARN, 'any image',
         lambda f: 0 < f.stamps.get(REPEATED, 0) < max(f.images, LEAST),
         '{f.stamps[repeated]} of {f.images} images have the stamp of the one before',
         'the driver sends images twice, or stamps them too coarsely'),
    Rule('stamps_back', Level.WARN, 'any image', lambda f: f.stamps.get(BACK, 0) > 0,
         'the stamps jumped back by {f.jump_s:.3f} s',
         'a bag that starts over, a clock that was set, or two publishers on one topic'),
    Rule('stamps_forward', Level.WARN, f'any image, more than {JUMP_S:g} s ahead of the clocks',
         lambda f: f.stamps.get(FORWARD, 0) > 0,
         'the stamps jumped forward by {f.jump_s:.3f} s',
         'a clock that was set: synchronise the clocks of camera and computer'),
    Rule('replayed', Level.WARN, f'the median, more than {_LONG_AGO_S:g} s and `max_age_s`',
         lambda f: f.age_s > max(_LONG_AGO_S, f.limits.max_age_s),
         'image stamps are {f.age_s:.1f} s old', 'replaying without use_sim_time?'),
    Rule('old', Level.WARN, 'the median, more than `max_age_s`',
         lambda f: f.limits.max_age_s < f.age_s <= _LONG_AGO_S,
         'image stamps are {f.age_s:.1f} s old',
         'a slow driver or network, or clocks that differ'),
    Rule('future', Level.WARN, 'the median, more than `max_age_s`',
         lambda f: f.ahead_s > f.limits.max_age_s,
         'image stamps are {f.ahead_s:.1f} s in the future',
         'the clocks of camera and computer differ: synchronise them'),
    Rule('info_size', Level.WARN, 'at once',
         lambda f: None not in (f.info.size, f.image_size) and f.info.size != f.image_size,
         'camera_info is for {f.info.size} but the images are {f.image_size}, so none is '
         'published for the mask',
         'calibrate at the size in use'),
    Rule('info_needed', Level.ERROR, '`image_timeout_s` after the activation, with a preset whose '
         'consumer needs it',
         lambda f: bool(f.info.needed) and _no_info(f),
         'no camera_info on {f.info.topic}, so preset {f.info.needed} publishes none, and its '
         'consumer takes no mask', '{f.info_mend}'),
    Rule('info_missing', Level.WARN, '`image_timeout_s` after the activation',
         lambda f: f.info.wanted and not f.info.needed and _no_info(f),
         'no camera_info on {f.info.topic}, so none is published for the mask, though somebody '
         'subscribes to it', '{f.info_mend}'),
    Rule('lacking', Level.WARN, 'somebody subscribes to them',
         lambda f: bool(f.info.lacking), '{f.info.lacking}', ''),
    Rule('info_problem', Level.WARN, 'at once', lambda f: bool(f.info.problem),
         'camera_info cannot be used as it is', '{f.info.problem}'),
    Rule('ground_problem', Level.WARN, 'somebody subscribes to them',
         lambda f: bool(f.info.ground_problem), '{f.info.ground_problem}', ''),
)

#: The rules whose cause is looked for.
SILENT = ('silent', 'never')
#: Why a camera is silent: the first one that holds is said after it.
CAUSES: tuple[Rule[tuple[StreamFacts, Publishers]], ...] = (
    Rule('sibling', Level.OK, '', lambda f: not f[1].count and bool(f[1].sibling),
         'nobody publishes it, but {f[1].sibling} is published',
         'set {f[0].name}.transport to {f[1].transport}'),
    Rule('elsewhere', Level.OK, '', lambda f: not f[1].count and bool(f[1].elsewhere),
         'nobody publishes it; images are published on {f[1].elsewhere}',
         'set {f[0].name}.image_topic (or the namespace) to fit, or start the camera driver'),
    Rule('nobody', Level.OK, '', lambda f: not f[1].count,
         'nobody publishes it',
         'is the camera driver running, and is {f[0].name}.image_topic right?'),
    Rule('type', Level.OK, '', lambda f: f[1].other_transport,
         'its type is {f[1].types[0]}, not {f[1].wanted}', 'set {f[0].name}.transport'),
    Rule('no_images', Level.OK, '', lambda f: bool(f[1].types),
         'its type is {f[1].types[0]}, not {f[1].wanted}',
         'set {f[0].name}.image_topic to a topic of images'),
    Rule('qos', Level.OK, '', lambda f: not f[1].compatible,
         'a publisher with incompatible QoS exists', 'set {f[0].name}.reliable to false'),
    Rule('all_lost', Level.OK, '', lambda f: f[0].reported_lost > 0,
         'a publisher exists, but since then {f[0].reported_lost} images were lost on the way',
         'set the shared-memory profile for the driver, too (docs/troubleshooting.md)'),
    Rule('stopped', Level.OK, '', lambda f: f[0].arrived,
         'a publisher exists but has stopped', 'look at the camera and its driver'),
    Rule('nothing', Level.OK, '', lambda f: True,
         'a publisher exists but nothing arrives',
         'does the driver get images from its camera? Large ones need the shared-memory profile '
         '(docs/troubleshooting.md)'),
)

SURROUNDINGS: tuple[Rule[SurroundingFacts], ...] = (
    Rule('namesake', Level.WARN, 'at once', lambda f: f.namesakes > 1,
         '{f.namesakes} nodes are called {f.name}, so their masks are mixed',
         'end one or rename it (a killed one is seen for up to 20 s)'),
    Rule('no_clock', Level.WARN, 'at once', lambda f: f.simulated and not f.clock_s,
         'use_sim_time is set but there is no /clock',
         'play the bag with --clock, or set use_sim_time to false'),
    Rule('clock_still', Level.WARN, f'images arrive, and for {_CLOCK_STILL_S:g} s',
         lambda f: f.simulated and f.clock_s > 0 and f.clock_still_s > _CLOCK_STILL_S,
         'images arrive but /clock has not moved for {f.clock_still_s:.1f} s',
         'play the bag with --clock, or set use_sim_time to false'),
    Rule('memory_closed', Level.WARN, 'from the start',
         lambda f: f.memory is not None and f.memory.opened is False,
         'the shared-memory transport did not open, so large images will be lost: /dev/shm has '
         '{f.memory.megabytes[0]} MB, {f.memory.megabytes[1]} MB of it free, and each process '
         'needs {f.memory.megabytes[2]} MB',
         'enlarge it (docker run --shm-size=1g or --ipc=host) or free it (fastdds shm clean), '
         'then start again'),
    Rule('memory_small', Level.WARN, 'not more than two processes need',
         lambda f: f.memory is not None and f.memory.small,
         '/dev/shm has {f.memory.megabytes[0]} MB, too little for the node and one driver that '
         'take {f.memory.megabytes[2]} MB each, so large images will be lost',
         'docker run --shm-size=1g or --ipc=host'),
    Rule('memory_full', Level.WARN, 'less than one process needs',
         lambda f: f.memory is not None and f.memory.full,
         '/dev/shm is nearly full, {f.memory.megabytes[1]} MB free: a driver that starts now '
         'loses large images',
         'enlarge it (docker run --shm-size=1g or --ipc=host) or free it (fastdds shm clean)'),
    Rule('gpu_unused', Level.WARN, 'at configure', lambda f: bool(f.gpu_unused),
         'a GPU is there but backend auto runs on the CPU ({f.gpu_unused})',
         'mend that (docs/gpu.md), or set backend to onnxruntime to have it so'),
)


def _no_info(f: StreamFacts) -> bool:
    return (f.info.size is None and f.arriving and not f.info.problem
            and f.active_s > f.limits.image_timeout_s)


def _mostly_refused(f: StreamFacts) -> bool:
    return f.refused > 1 and 2 * f.refused >= f.decided


def _mask_overdue_s(f: StreamFacts) -> float:
    """Return the age of an overdue mask; 0 if none is, or refusals or silence explain it."""
    if f.mask_age_s is None or f.refused or not f.arriving or f.mask_age_s <= f.mask_due_s:
        return 0.0
    return f.mask_age_s


def table(rules: Sequence[Rule[Facts]]) -> str:
    """Return rules as a Markdown table; ``…`` stands for a figure or a name."""
    rows: list[tuple[str, ...]] = [('level', 'when', 'message', 'mend'), ('---',) * 4]
    for rule in sorted(rules, key=lambda rule: -rule.level):
        message, mend = (re.sub(r'\{[^}]*\}', '…', text) for text in (rule.message, rule.mend))
        rows.append((rule.level.name, rule.condition, message, mend))
    if all(rule.level == Level.OK for rule in rules):  # causes have neither level nor condition
        rows = [row[2:] for row in rows]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


if __name__ == '__main__':
    print('\n\n'.join((table(CAMERA), table(CAUSES), table(SURROUNDINGS))))
