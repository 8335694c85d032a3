"""Pickles under any name: whether Python's unpickler would run what a file begins with.

The instructions are followed, not executed. A file is a pickle if they end well, or come to one
that calls or imports something: that would run, whatever follows it.
"""

import pickletools
import sys
from dataclasses import dataclass, field
from typing import BinaryIO

HIGHEST_PROTOCOL = 5
MIN_INSTRUCTIONS = 3  # of a harmless pickle: `Mrs.` has two
CALLING = frozenset({"REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
IMPORTING = frozenset({"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
NAMING = frozenset({"GLOBAL", "INST"})  # import what the instruction itself names
STORING = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
FETCHING = frozenset({"GET", "BINGET", "LONG_BINGET"})
# Modules whose import alone counts: those of the standard library, and what most models need.
KNOWN_MODULES = frozenset({*sys.stdlib_module_names, "__builtin__", "copy_reg", "numpy", "torch"})
BLANK_BYTES = 64  # that may follow a pickle without a protocol
MARK = "mark"
VALUE = "value"
# What the module of Python raises where an unpickler would stop with an error.
BROKEN = (ValueError, IndexError, OverflowError, EOFError, MemoryError)


@dataclass
class Unpickler:
    """The stack and the memo of an unpickler that executes nothing."""

    stack: list[str] = field(default_factory=list)
    memo: set[object] = field(default_factory=set)

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> bool:
        """Follow an instruction; return False where a real unpickler would stop with an error."""
        if not self.is_possible(opcode.name, argument):
            return False
        if not self.pop(opcode.stack_before):
            return False
        if opcode.name == "MEMOIZE":
            argument = len(self.memo)
        if opcode.name in STORING:
            self.memo.add(argument)
        for pushed in opcode.stack_after:
            self.stack.append(MARK if pushed is pickletools.markobject else VALUE)
        return True

    def is_possible(self, name: str, argument: object) -> bool:
        """Return whether what an instruction refers to can be there."""
        if name in FETCHING:
            return argument in self.memo
        if name in NAMING:
            return names_attribute(argument)
        return True

    def pop(self, expected: list[pickletools.StackObject]) -> bool:
        """Take what an instruction expects from the stack; return False if it is not there."""
        if pickletools.markobject not in expected:
            return self.pop_values(len(expected))
        if MARK not in self.stack:
            return False
        position = expected.index(pickletools.markobject)
        last_mark = len(self.stack) - 1 - self.stack[::-1].index(MARK)
        above = expected[position + 1 :]
        needed = len(above) - above.count(pickletools.stackslice)
        if len(self.stack) - last_mark - 1 < needed:
            return False
        del self.stack[last_mark:]
        return self.pop_values(position)

    def pop_values(self, count: int) -> bool:
        """Take values from the stack; return False if there are fewer."""
        if count > len(self.stack):
            return False
        del self.stack[len(self.stack) - count :]
        return True


def find_protocol(file: BinaryIO) -> int | None:
    """Return the protocol of the pickle that a file begins with; None if it is none.

    Protocols 0 and 1 do not name themselves; they count as 0.
    """
    try:
        return follow_instructions(file)
    except BROKEN:
        return None


def follow_instructions(file: BinaryIO) -> int | None:
    """Follow the instructions up to one that tells; return the protocol of a pickle."""
    protocol = 0
    unpickler = Unpickler()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file), 1):
        if opcode.name == "PROTO":
            protocol = int(str(argument))
        if not unpickler.follow(opcode, argument):
            return None
        if runs_code(opcode.name, argument):
            return protocol
        if opcode.name == "STOP":
            is_pickle = protocol > 0 or is_whole(file, count)
            return protocol if is_pickle else None
    return None


def is_whole(file: BinaryIO, count: int) -> bool:
    """Return whether a pickle without a protocol is all of the file, and not a word like `Mrs.`."""
    return count >= MIN_INSTRUCTIONS and not file.read(BLANK_BYTES).strip()


def names_attribute(argument: object) -> bool:
    """Return whether an instruction names an attribute of a module, as `os system` does."""
    names = str(argument).split(" ")
    parts = ".".join(names).split(".")
    return len(names) == 2 and all(part.isidentifier() for part in parts)


def runs_code(name: str, argument: object) -> bool:
    """Return whether an instruction calls or imports something that may be there."""
    if name == "GLOBAL":
        module, _, _ = str(argument).partition(" ")
        return module.split(".")[0] in KNOWN_MODULES
    return name in CALLING or name in IMPORTING


def begins_like_pickle(head: bytes) -> int | None:
    """Return the protocol that the first bytes name, whether the rest is intact or not."""
    is_named = len(head) > 1 and head[0] == 0x80 and head[1] <= HIGHEST_PROTOCOL
    return head[1] if is_named else None


def describe(protocol: int) -> str:
    """Describe a pickle as the rest of a sentence."""
    number = str(protocol) if protocol > 1 else "0 or 1"
    return f"is a pickle (protocol {number}), which may run any code when it is read"
