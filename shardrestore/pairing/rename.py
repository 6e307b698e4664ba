"""Names that differ between base and target: renaming, and suggesting it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..errors import PairingError, RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A substitution that turns names of the base into names of the target."""

    pattern: re.Pattern[str]
    replacement: str


def parse_rename(text: str) -> Rename:
    r"""Parse ``REGEX=REPL``; the last ``=`` separates, so lookaheads are fine.

    Raises
    ------
    RequestError
        If there is no ``=``, or the expression or its replacement is not valid.

    Examples
    --------
    >>> parse_rename(r"^model\.language_model\.=language_model.model.").replacement
    'language_model.model.'
    """
    expression, separator, replacement = text.rpartition("=")
    if not separator:
        raise RequestError(f"--rename {text!r}: expected REGEX=REPL")
    pattern = compile_pattern(expression, "--rename")
    try:
        # An alternative that always matches, so that the replacement is parsed.
        re.compile(f"{expression}|", pattern.flags & ~re.VERBOSE).sub(replacement, "")
    except (re.error, IndexError) as error:
        raise RequestError(f"--rename {text!r}: not a valid replacement: {error}") from error
    return Rename(pattern=pattern, replacement=replacement)


def compile_pattern(expression: str, option: str) -> re.Pattern[str]:
    """Compile a user's regular expression, or raise RequestError naming the option."""
    try:
        return re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise RequestError(
            f"{option} {expression!r}: not a valid regular expression: {error}"
        ) from error


def rename_all(names: Collection[str], renames: Sequence[str]) -> dict[str, str]:
    """Return each name after all renames, mapped to the original name.

    Raises
    ------
    RequestError
        See ``parse_rename``.
    PairingError
        If two names become one.
    """
    originals: dict[str, str] = {}
    parsed = [parse_rename(text) for text in renames]
    for name in names:
        new = name
        for rename in parsed:
            new = rename.pattern.sub(rename.replacement, new)
        if new in originals:
            raise PairingError(
                f"--rename turns two tensors of the base, {originals[new]!r} and {name!r}, "
                f"into {new!r}: make the expression narrower"
            )
        originals[new] = name
    return originals


def suggest_prefix(
    base_names: Collection[str], wanted: Sequence[str], fits: Callable[[str, str], bool]
) -> str | None:
    """Find one change of prefix that pairs every wanted name; return its ``--rename``.

    Parameters
    ----------
    base_names : collection of str
        All names of the base.
    wanted : sequence of str
        Names of the target that must find a partner; at least one.
    fits : callable
        Whether a base name and a target name may be paired (their shapes agree).
    """
    base_names = set(base_names)
    for base_prefix, target_prefix in _prefix_changes(base_names, wanted[0]):
        if all(
            name.startswith(target_prefix)
            and (partner := base_prefix + name.removeprefix(target_prefix)) in base_names
            and fits(partner, name)
            for name in wanted
        ):
            expression = re.escape(base_prefix) or _before(wanted, target_prefix)
            replacement = target_prefix.replace("\\", r"\\")
            return None if "=" in replacement else f"^{expression}={replacement}"
    return None


def _before(wanted: Sequence[str], prefix: str) -> str:
    """Return an expression that matches before the wanted names' first components alone."""
    first = sorted({name.removeprefix(prefix).partition(".")[0] for name in wanted})
    return f"(?=(?:{'|'.join(map(re.escape, first))})\\.)"


def _prefix_changes(base_names: Collection[str], name: str) -> list[tuple[str, str]]:
    """Return pairs of prefixes that would turn some base name into `name`, likeliest first."""
    parts = name.split(".")
    changes: dict[tuple[str, str], int] = {}
    for other in base_names:
        other_parts = other.split(".")
        common = 0
        while common < min(len(parts), len(other_parts)) and (
            parts[-1 - common] == other_parts[-1 - common]
        ):
            common += 1
        # A leaf alone (weight, bias) says nothing: a head is no other head under a new prefix.
        if common >= min(2, len(parts), len(other_parts)):
            suffix = ".".join(parts[-common:])
            changes[other.removesuffix(suffix), name.removesuffix(suffix)] = common
    return sorted(changes, key=lambda change: (-changes[change], change))
