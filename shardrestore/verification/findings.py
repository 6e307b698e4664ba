"""What is wrong, collected in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoint.entry import show_name

MAX_DETAILED = 20
"""Problems that are listed in full; further ones are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The wrong elements of one tensor: how many, and the first."""

    file: str
    name: str
    count: int
    element: int
    """Index of the first, row-major."""
    text: str
    """What the first one is, and why that is wrong."""

    def merge(self, other: Difference | None) -> Difference:
        """Return both as one."""
        if other is None:
            return self
        first = min(self, other, key=lambda difference: difference.element)
        return Difference(
            file=first.file,
            name=first.name,
            count=self.count + other.count,
            element=first.element,
            text=first.text,
        )

    def describe(self) -> str:
        """Return a sentence."""
        total = "1 element" if self.count == 1 else f"{self.count:,} elements"
        return (
            f"{self.file}: tensor {show_name(self.name)}: element {self.element} {self.text} "
            f"({total} of this tensor wrong)"
        )


class Findings:
    """Problems, as they are found."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._count = 0
        self._differences: dict[str, Difference] = {}

    def add(self, text: str) -> None:
        """Note a problem that is not one of elements."""
        self._count += 1
        if len(self._texts) < MAX_DETAILED:
            self._texts.append(text)

    def differ(self, difference: Difference) -> None:
        """Note wrong elements; those of one tensor become one problem."""
        known = self._differences.get(difference.name)
        self._differences[difference.name] = difference.merge(known)

    @property
    def differing_elements(self) -> int:
        """Number of wrong elements in all tensors."""
        return sum(difference.count for difference in self._differences.values())

    def problems(self) -> tuple[str, ...]:
        """Return at most ``MAX_DETAILED`` sentences, and one more if there are others.

        Files and figures come first, then tensors in canonical order: neither
        depends on the order in which workers found them.
        """
        total = self._count + len(self._differences)
        texts = list(self._texts)
        names = sorted(self._differences)[: MAX_DETAILED - len(texts)]
        texts += [self._differences[name].describe() for name in names]
        if total > len(texts):
            texts.append(f"and {total - len(texts):,} more problems")
        return tuple(texts)
