"""What a commit adds, as operations of huggingface_hub; and how that is kept quiet."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..checkpoint.source import Progress
from ..output.uploaded import UploadedFile


class Meter:
    """Tells how far into a file one has come, also where parts of it are sent again."""

    def __init__(self, advance: Progress) -> None:
        self._advance = advance
        self._position = 0

    def reach(self, position: int) -> None:
        """Note how far one has come."""
        if position > self._position:
            self._advance(position - self._position)
            self._position = position


def make_addition(name: str, content: Path | bytes | BinaryIO, meter: Meter) -> Any:
    """Return an operation of huggingface_hub that reports to `meter` what is read of it.

    Only plain HTTP reads it in Python: what goes by Xet shows when the file is done.
    """
    from huggingface_hub import CommitOperationAdd

    class Addition(CommitOperationAdd):
        @contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
            with super().as_file() as file:
                if with_tqdm and not isinstance(content, bytes):  # on its way, not only hashed
                    read = file.read

                    def read_metered(size: int | None = -1) -> bytes:
                        data = read(-1 if size is None else size)
                        meter.reach(file.tell())
                        return data

                    file.read = read_metered  # type: ignore[method-assign]
                yield file

    return Addition(path_in_repo=name, path_or_fileobj=content)


def make_absent(file: UploadedFile) -> Any:
    """Return an operation of huggingface_hub for what the Hub has and this disk has not."""
    from huggingface_hub import CommitOperationAdd

    class Absent(CommitOperationAdd):
        def as_file(self, with_tqdm: bool = False) -> NoReturn:
            raise ValueError(f"it asks for {file.name}, which it had confirmed")

    # A stream, though an empty one: huggingface_hub would send bytes by Xet, unasked.
    absent = Absent(path_in_repo=file.name, path_or_fileobj=io.BytesIO())
    absent.upload_info = make_info(file)
    return absent


def make_info(file: UploadedFile) -> Any:
    """Return what huggingface_hub knows of a file; its bytes are not asked for."""
    from huggingface_hub.lfs import UploadInfo

    # The sample distinguishes text from the rest: a safetensors file begins with a binary number.
    return UploadInfo(size=file.nbytes, sample=bytes(8), sha256=bytes.fromhex(file.sha256))


@contextmanager
def silenced() -> Iterator[None]:
    """Keep huggingface_hub from showing bars, warnings and log lines with addresses."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        # Its own use of httpx2 is deprecated, and warnings may be errors.
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        if bars:
            disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars:
                enable_progress_bars()
