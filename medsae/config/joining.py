"""Options of what is registered elsewhere (encoders, backends), joined to those of a step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any


@cache
def joined(command: type, options: type | None) -> type:
    """The config class `command` with the fields of `options` (a frozen dataclass of an encoder or a backend) added.

    Such a field is like any other: on the command line, in the saved record, in the identity. ValueError where a field
    of `options` has the name of one of `command` (other than one that both inherit).
    """
    if options is None or options in command.__mro__:
        return command
    both = {f.name for cls in set(options.__mro__) & set(command.__mro__) - {object} for f in fields(cls)}
    taken = {f.name for f in fields(command)} & {f.name for f in fields(options)} - both
    if taken:
        raise ValueError(f"{options.__qualname__} repeats options of {command.__name__}: {', '.join(sorted(taken))}")

    def check_both(self: Any) -> None:
        for cls in (command, options):
            getattr(cls, "__post_init__", lambda _: None)(self)

    body = {"__post_init__": check_both, "__doc__": command.__doc__, "__module__": command.__module__}
    return dataclass(frozen=True, kw_only=True)(type(command.__name__, (options, command), body))


def options_of(config: Any, options: type | None) -> Any:
    """The own options of an encoder or a backend out of a joined config; None where it has none."""
    return None if options is None else options(**{f.name: getattr(config, f.name) for f in fields(options)})
