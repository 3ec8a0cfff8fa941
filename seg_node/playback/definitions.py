"""Message definitions as rosbags knows them: read from bags, made from the installed classes."""

from functools import lru_cache
import re
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.typesys import (
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
    Stores,
    TypesysError,
)
from rosbags.typesys.store import Typestore

from ..errors import ConfigError
from .messages import message_class, type_name_of

_HEADER = 'std_msgs/msg/Header'
# C++ and IDL have no empty structure: a ROS 2 message without fields carries one byte.
_DUMMY = ('structure_needs_at_least_one_member', (Nodetype.BASE, ('uint8', 0)))
_BASE = {'boolean': 'bool', 'double': 'float64', 'float': 'float32', 'octet': 'byte'}
_SAME_BYTES = {'byte': 'uint8', 'char': 'uint8', 'bool': 'uint8', 'int8': 'uint8'}
_SEPARATOR = '=' * 80
_STORES = (Stores.ROS2_JAZZY, Stores.ROS2_KILTED, Stores.LATEST)


def recorded_store(definition: MessageDefinition, type_name: str, *,
                   ros1: bool = False) -> Typestore:
    """
    Return a store with a type and its parts as a bag defines them.

    :param ros1: turn them into what ROS 2 makes of them: no ``seq`` in headers, no empty message.
    :raises TypesysError: when the definition cannot be read.
    """
    if definition.format == MessageDefinitionFormat.IDL:
        types = {}
        for part in filter(str.strip, definition.data.split(_SEPARATOR + '\n')):
            types.update(get_types_from_idl(re.sub(r'\AIDL: .*\n', '', part)))
    else:
        types = get_types_from_msg(definition.data, type_name)
    if ros1:
        for name, (constants, fields) in types.items():
            types[name] = (constants, fields or [_DUMMY])
        if _HEADER in types:
            types[_HEADER] = get_typestore(Stores.LATEST).fielddefs[_HEADER]
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def installed_store(type_name: str) -> Typestore:
    """
    Return a store with a type and its parts as the installed Python classes define them.

    :raises ConfigError: when the type or one of its parts is not installed.
    """
    texts: dict[str, str] = {}
    _collect(type_name, texts)
    parts = [texts.pop(type_name)]
    parts += [f'{_SEPARATOR}\nMSG: {name}\n{text}' for name, text in texts.items()]
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg('\n'.join(parts), type_name))
    return store


def serialized(message: Any) -> bytes:
    """
    Return a message of rclpy as CDR bytes; equal messages have equal bytes.

    rclpy leaves between the fields, where they are aligned, whatever the memory held; here that
    is 0.
    """
    from rclpy.serialization import serialize_message
    name = type_name_of(type(message))
    store = _store_of(name)
    return bytes(store.serialize_cdr(
        store.deserialize_cdr(bytes(serialize_message(message)), name), name))


_store_of = lru_cache(installed_store)


def _collect(type_name: str, texts: dict[str, str]) -> None:
    """Add the .msg texts of a type and of all types in it."""
    found = message_class(type_name)
    if found is None:
        raise ConfigError(f'message type {type_name} is not installed')
    lines = []
    texts[type_name] = ''
    for field, idl in found.get_fields_and_field_types().items():
        base, suffix = _msg_type(idl)
        lines.append(f'{base}{suffix} {field}')
        if '/' in base:
            package, name = base.split('/')
            nested = f'{package}/msg/{name}'
            if nested not in texts:
                _collect(nested, texts)
    texts[type_name] = '\n'.join(lines or [f'uint8 {_DUMMY[0]}'])


def _msg_type(idl: str) -> tuple[str, str]:
    """Return (base type, array suffix) in .msg terms of e.g. ``sequence<double, 3>``."""
    sequence = re.fullmatch(r'sequence<(.+?)(?:, (\d+))?>', idl)
    array = re.fullmatch(r'(.+)\[(\d+)\]', idl)
    if sequence:
        base, suffix = sequence[1], f'[<={sequence[2]}]' if sequence[2] else '[]'
    elif array:
        base, suffix = array[1], f'[{array[2]}]'
    else:
        base, suffix = idl, ''
    base = re.sub(r'^(w?string)<(\d+)>$', r'\1<=\2', base)
    return _BASE.get(base, base), suffix


def layout(store: Typestore, type_name: str) -> tuple[Any, ...]:
    """Return how messages of a type lie in memory; equal for types that can be exchanged."""
    fields = [kind for _, kind in store.fielddefs[type_name][1]] or [_DUMMY[1]]
    return tuple(_layout_of(store, kind) for kind in fields)


def _layout_of(store: Typestore, kind: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return layout(store, detail)
    if node == Nodetype.BASE:
        return _SAME_BYTES.get(detail[0], detail[0])
    return (_layout_of(store, detail[0]), detail[1] if node == Nodetype.ARRAY else None)


def mismatch(definition: MessageDefinition, type_name: str, *, ros1: bool = False) -> bool:
    """Return whether a bag's messages of a type cannot be read as the installed type."""
    if definition.format == MessageDefinitionFormat.NONE:
        return False
    try:
        recorded = recorded_store(definition, type_name, ros1=ros1)
    except TypesysError:
        return True
    return layout(recorded, type_name) != layout(installed_store(type_name), type_name)


@lru_cache
def definition_of(type_name: str, type_hash: str = '') -> tuple[str, str]:
    """
    Return (definition text, RIHS01 hash) of an installed type, as bags store them.

    :param type_hash: the hash a publisher announces; '' = the installed type's own.
    :raises ConfigError: when the type is not installed, or is another one than the publisher's.
    """
    own = installed_store(type_name)
    type_hash = type_hash or own.hash_rihs01(type_name)
    for store in (*map(get_typestore, _STORES), own):  # own lacks the constants
        if type_name in store.fielddefs and store.hash_rihs01(type_name) == type_hash:
            return store.generate_msgdef(type_name, ros_version=2)[0], type_hash
    raise ConfigError(f'{type_name} is published with another definition than the installed one '
                      f"({type_hash}). Build or install the publisher's version.")
