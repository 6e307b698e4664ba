"""Opened inputs, and what a request means for them."""

from __future__ import annotations

from contextlib import ExitStack

from ..checkpoint.folder import Checkpoint
from ..errors import MemoryBudgetError
from ..hub.reference import Reference, open_checkpoint
from ..passes.device import Device, find_device
from ..passes.download import Downloads, plan_downloads
from ..passes.plan import Work, plan_work
from ..profile.file import Profile
from ..profile.identity import check_profile
from ..request import Request


class Session:
    """Base, target and profile of a request, open; use it as a context manager.

    Parameters
    ----------
    base, target : str or path-like
        The two checkpoints: folders, or repositories on the Hub.
    request : Request

    Raises
    ------
    ShardRestoreError
        If an input cannot be opened, the profile is not of these inputs, or the
        request makes no sense for them. Headers are read, weights are not, and
        nothing is downloaded but an index and a configuration.
    """

    base: Checkpoint
    target: Checkpoint
    profile: Profile | None
    device: Device
    downloads: Downloads
    work: Work

    def __init__(self, base: Reference, target: Reference, request: Request) -> None:
        self.request = request
        with ExitStack() as stack:
            limit = request.limits.max_memory_bytes
            self.base = stack.enter_context(open_checkpoint(base, "base", max_memory_bytes=limit))
            self.target = stack.enter_context(
                open_checkpoint(target, "target", max_memory_bytes=limit)
            )
            self.profile = None
            if request.profile is not None:
                self.profile = stack.enter_context(Profile(request.profile))
            self.device = find_device(request.devices, limit)
            self.downloads = plan_downloads(
                self.base, self.target, request.streamed, side_files=True
            )
            self.work = self._plan()
            if self.profile is not None:
                check_profile(self.profile, self.base, self.target, request.dtype, request.rename)
            self._opened = stack.pop_all()

    def _plan(self) -> Work:
        """Plan the work; on processors, if a GPU that was not asked for does not fit."""
        try:
            return self._plan_work()
        except MemoryBudgetError:
            if self.request.devices != ("auto",) or not self.device.names:
                raise
            self.device = Device(reason=f"{self.device.label} does not fit the memory budgets")
            return self._plan_work()

    def _plan_work(self) -> Work:
        request = self.request
        return plan_work(
            self.base,
            self.target,
            request.filters,
            renames=request.renames,
            strategies=request.strategies,
            percents=request.percents,
            dtype=request.dtype,
            cast=request.cast,
            approximate=request.approximate,
            profile_bytes=self.profile.memory_bytes if self.profile else None,
            downloads=self.downloads,
            pages=request.report,
            device=self.device,
            limits=request.limits,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()
