"""A model that is in memory: restored where it is, for good or for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Unpack

from ..errors import RequestError
from ..figures.restoration import RestorationReport
from ..inputs.reference import Reference
from ..machine.progress import Observer
from ..options.documented import documents_options
from ..options.table import DEFAULT_PERCENT, MODULE_DEFAULTS, ModuleOptions
from ..request import make_module_request

if TYPE_CHECKING:
    from ..inplace.edit import Module


@documents_options(ModuleOptions, **MODULE_DEFAULTS)
def restore_module(
    target_model: Module,
    base: Module | Reference,
    *,
    percent: float = DEFAULT_PERCENT,
    observer: Observer | None = None,
    **options: Unpack[ModuleOptions],
) -> RestorationReport:
    """Restore a share of a fine-tuned model's weights in memory, in place.

    The elements are those that ``restore`` would choose in the files of both models.
    Buffers are left alone, tied weights count once.

    Parameters
    ----------
    target_model : torch.nn.Module
        The fine-tuned model, on any device.
    base : torch.nn.Module, str or path-like
        The model before fine-tuning: a module on any device, or what ``restore`` takes.
        Weights of a checkpoint are read twice, a block at a time; those on the Hub are
        not stored.
    percent : float
        Share of the region's elements to restore, above 0, at most 100.
    observer : Observer, optional
        Receives progress.
    **options
        See ``ModuleOptions``.

    Returns
    -------
    RestorationReport

    Raises
    ------
    ShardRestoreError
        The module is then as it was, bit for bit; so it is after an interruption.

    Examples
    --------
    >>> report = restore_module(model, "llama", percent=10)  # doctest: +SKIP
    >>> report.selected_elements  # doctest: +SKIP
    97307852
    """
    request = make_module_request(percent, options)
    with _needing_torch():
        from ..inplace.restoration import restore_for_good
    return restore_for_good(target_model, base, request, observer)


@documents_options(ModuleOptions, **MODULE_DEFAULTS)
def restored(
    target_model: Module,
    base: Module | Reference,
    *,
    percent: float = DEFAULT_PERCENT,
    observer: Observer | None = None,
    **options: Unpack[ModuleOptions],
) -> AbstractContextManager[RestorationReport]:
    """Restore a share of a model's weights in memory, and undo it on leaving, bit for bit.

    The elements that were restored get their former bits back, even if other code has
    changed weights meanwhile; no other element is touched.

    Parameters
    ----------
    target_model : torch.nn.Module
    base : torch.nn.Module, str or path-like
    percent : float
    observer : Observer, optional
    **options
        All as for ``restore_module``.

    Returns
    -------
    context manager
        Of a ``RestorationReport``.

    Raises
    ------
    ShardRestoreError
        As for ``restore_module``; on leaving, if a parameter is of another format by now,
        or if later restorations of the same weights are active: leave those first.

    Examples
    --------
    >>> for percent in (1, 3, 5, 10, 20, 40, 60):  # doctest: +SKIP
    ...     with restored(model, "llama", percent=percent) as report:
    ...         print(percent, report.threshold, evaluate(model))
    """
    request = make_module_request(percent, options)
    with _needing_torch():
        from ..inplace.restoration import restore_for_a_while
    return restore_for_a_while(target_model, base, request, observer)


@contextmanager
def _needing_torch() -> Iterator[None]:
    """Say what is missing where an import finds no torch."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise RequestError(
            "to restore a model in memory takes torch, which is not installed: "
            "pip install 'shardrestore[gpu]'"
        ) from error
