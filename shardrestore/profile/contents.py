"""What a profile says besides its counts: inputs, options, tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..documents import INLINE, key, to_json
from ..scores import DEFAULT_SCORE
from ..scoring import Scoring

FORMAT = 1
"""Version of the profile's contents; raised when a key or an array changes its meaning."""

SCORED_FORMAT = 2
"""Version of contents that name their score, so that versions with one score refuse them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledTensor:
    """A tensor whose scores a profile holds."""

    name: str
    """The target's name."""
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    """Formats in base and target."""
    exact: bool
    """Whether its scores are bfloat16."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def _list_values(tensors: tuple[ProfiledTensor, ...]) -> list[list[object]]:
    """Return tensors without keys, which would be most of what thousands of them take."""
    return [[tensor.name, tensor.shape, *tensor.dtypes, tensor.exact] for tensor in tensors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything in a profile but its counts."""

    segment_elements: int
    """Elements of a segment, see ``Granularity``."""
    inputs: Mapping[str, Any]
    """Identities of ``base`` and ``target``, see ``profile.identity``."""
    scoring: Scoring = field(metadata=INLINE)
    """How the weights were scored."""
    tensors: tuple[ProfiledTensor, ...] = field(metadata=key("tensors", convert=_list_values))
    """In canonical order."""
    unpaired: Mapping[str, str]
    """Tensors of the target that could not be scored, and why."""

    def count_segments(self) -> int:
        """Return the number of segments, without a look at each: a file may claim any shape."""
        return sum(self.segments_of(tensor) for tensor in self.tensors)

    def segments_of(self, tensor: ProfiledTensor) -> int:
        """Return the number of segments of a tensor."""
        return -(-tensor.elements // self.segment_elements)

    def segments(self) -> Iterator[tuple[ProfiledTensor, int]]:
        """Yield the tensor and the number of elements of each segment, in canonical order."""
        for tensor in self.tensors:
            for start in range(0, tensor.elements, self.segment_elements):
                yield tensor, min(self.segment_elements, tensor.elements - start)

    @property
    def is_rounded(self) -> bool:
        """Whether a base was rounded to its target's format, not both cast as was asked for."""
        mixed = any(tensor.dtypes[0] != tensor.dtypes[1] for tensor in self.tensors)
        return mixed and self.scoring.cast is None

    def encode(self) -> str:
        """Return the contents as JSON."""
        default = self.scoring.score == DEFAULT_SCORE
        document = {
            "format": FORMAT if default else SCORED_FORMAT,
            **({"rounded": True} if self.is_rounded else {}),
            **to_json(self),
        }
        return json.dumps(document, separators=(",", ":"))


def decode_contents(text: str, segment_elements: int) -> Contents:
    """Read the JSON of ``Contents.encode``.

    Parameters
    ----------
    text : str
    segment_elements : int
        Elements that its segments must have.

    Raises
    ------
    ValueError
        What is wrong with it, as the end of a sentence that begins with its file.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("its contents are no JSON") from error
    if not isinstance(document, dict) or "format" not in document:
        raise ValueError("its contents name no format")
    if document["format"] not in (FORMAT, SCORED_FORMAT):
        raise ValueError(
            f"its format is {document['format']!r:.40}, this version of shardrestore reads "
            f"{FORMAT} and {SCORED_FORMAT}"
        )
    if document.get("segment_elements") != segment_elements:
        raise ValueError(
            f"its segments have {document.get('segment_elements')!r:.40} elements, this version "
            f"of shardrestore has {segment_elements}"
        )
    try:
        contents = Contents(
            segment_elements=segment_elements,
            inputs={role: dict(document["inputs"][role]) for role in ("base", "target")},
            scoring=Scoring.parse(document),
            tensors=tuple(map(_decode_tensor, document["tensors"])),
            unpaired={_text(name): _text(why) for name, why in document["unpaired"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("its contents are incomplete or of another kind") from error
    if contents.is_rounded and document.get("rounded") is not True:
        raise ValueError(
            "it scores pairs of two formats in float32, this version of shardrestore in the "
            "target's format: scan again"
        )
    names = [tensor.name for tensor in contents.tensors]
    if any(name >= following for name, following in pairwise(names)):
        raise ValueError("its tensors are not in canonical order")
    return contents


def _decode_tensor(values: Any) -> ProfiledTensor:
    name, shape, base_dtype, target_dtype, exact = values
    if not (
        isinstance(exact, bool) and all(type(length) is int and length >= 0 for length in shape)
    ):
        raise ValueError
    return ProfiledTensor(
        name=_text(name),
        shape=tuple(shape),
        dtypes=(_text(base_dtype), _text(target_dtype)),
        exact=exact,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
