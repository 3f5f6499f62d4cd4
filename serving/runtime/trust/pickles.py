"""Whether bytes are a pickle, told by what an unpickler would do with them.

Loading a pickle runs the code that it names, and the pickle need not be whole for that: an unpickler acts on each
opcode as it reads it. So the opcodes are followed without their effect, from the first byte to the first call, and no
more strictly than an unpickler does (`pickletools.genops` stops at numbers that an unpickler takes).
"""

from __future__ import annotations

import pickletools
from pickletools import OpcodeInfo

OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
NAMES = {"GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
CALLS = {"REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ"}
UNTAKEN = {"PERSID", "BINPERSID"}
"""An unpickler that nobody taught them stops here."""
DIGITS = b"+-0123456789"
FIRST = {
    "INT": DIGITS,
    "LONG": DIGITS,
    "GET": DIGITS,
    "PUT": DIGITS,
    "FLOAT": DIGITS + b".iInN",
    "STRING": b"'\"",
}
"""What an argument up to the end of its line begins with, where it cannot be anything."""
MOST_STEPS = 100_000


def is_pickle(content: bytes) -> bool:
    """Whether an unpickler that starts at the first byte would call something by name, or end at the last byte.

    Many a text reads as a number and an end: what names nothing and goes on behind its end is none, and harmless.
    """
    # PROTO and a version: every pickle of protocol 2 or newer
    if len(content) > 1 and content[0] == 0x80 and content[1] <= 5:
        return True
    position = 0
    stack: list[bool] = []
    named = False
    for _ in range(MOST_STEPS):
        opcode = OPCODES.get(content[position : position + 1].decode("latin-1"))
        if opcode is None or opcode.name in UNTAKEN:
            return False
        end = _end(content, position + 1, opcode)
        if end > len(content) or not _step(stack, opcode):
            return False
        if opcode.name == "STOP":
            return named or end == len(content)
        if opcode.name == "INST" or (named and opcode.name in CALLS):
            return True
        named = named or opcode.name in NAMES
        position = end
    # nothing else goes on for so long
    return True


def _end(content: bytes, position: int, opcode: OpcodeInfo) -> int:
    """Where the opcode's argument ends; beyond the content where an unpickler would not take it."""
    if opcode.arg is None:
        return position
    size = opcode.arg.n
    if size >= 0:
        return position + size
    if size == pickletools.UP_TO_NEWLINE:
        first = content[position : position + 80].lstrip()[:1]
        if opcode.name in FIRST and first not in FIRST[opcode.name]:
            return len(content) + 1
        for _ in range(2 if opcode.arg is pickletools.stringnl_noescape_pair else 1):
            position = content.find(b"\n", position) + 1
            if position == 0:
                return len(content) + 1
        return position
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(size, 4)
    return position + width + int.from_bytes(content[position : position + width], "little")


def _step(stack: list[bool], opcode: OpcodeInfo) -> bool:
    """Do to `stack` (True is a mark) what the opcode does to an unpickler's; False where that would fail."""
    before = opcode.stack_before
    taken = len(before)
    if pickletools.markobject in before:
        if True not in stack:
            return False
        while not stack.pop():
            pass
        taken = before.index(pickletools.markobject)
    if len(stack) < taken:
        return False
    del stack[len(stack) - taken :]
    stack.extend(thing is pickletools.markobject for thing in opcode.stack_after)
    return True
