"""Opened inputs, and what a request means for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Self

from ..checkpoint.allowance import Allowance
from ..checkpoint.folder import Checkpoint
from ..checkpoint.model import Model
from ..engine.job import Job
from ..errors import InputChangedError, MemoryBudgetError, ProfileError
from ..inputs.download import Downloads, plan_downloads
from ..inputs.opened import Inputs, refuse_same
from ..inputs.reference import Reference, open_checkpoint
from ..machine.device import Device, find_device
from ..machine.meter import measure_runtime
from ..pairing.filter import admitted_by
from ..pairing.ties import Ties, find_ties
from ..passes.cut import PlacedCut
from ..passes.restore import Restored
from ..plan.work import Work, plan_work
from ..profile.file import Profile
from ..profile.identity import check_profile
from ..request import Request


class ModelSession:
    """Base, target and profile of a request, open; use it as a context manager.

    Parameters
    ----------
    base, target : str, path-like or Model
        The two models: folders, repositories on the Hub, or opened ones, which are
        closed with the session.
    request : Request
    device : Device, optional
        Where to compute, whatever the request says.

    Raises
    ------
    ShardRestoreError
        If an input cannot be opened, the profile is not of these inputs, or the
        request makes no sense for them. Headers are read, weights are not, and
        nothing is downloaded but an index and a configuration.
    """

    base: Model
    target: Model
    profile: Profile | None
    downloads: Downloads
    ties: Ties
    work: Work

    def __init__(
        self,
        base: Reference | Model,
        target: Reference | Model,
        request: Request,
        device: Device | None = None,
    ) -> None:
        self.request = request
        # Before anything is opened: that is counted by itself.
        self._runtime_bytes = measure_runtime()
        with ExitStack() as stack:
            self.base = stack.enter_context(self._open(base, "base"))
            self.target = stack.enter_context(self._open(target, "target"))
            self._check_target()
            refuse_same(self.base, self.target)
            self.profile = None
            if request.profile is not None:
                self.profile = stack.enter_context(
                    Profile(
                        request.profile,
                        request.granularity,
                        Allowance(request.limits.max_memory_bytes),
                    )
                )
            device = device or find_device(
                request.devices, request.max_memory_bytes, request.scoring.score
            )
            self.downloads = plan_downloads(
                self.base, self.target, request.streamed, side_files=True
            )
            self.ties = find_ties(self.target, admitted_by(request.filters))
            self._device = device
            self.work = self._plan(device)
            if self.profile is not None:
                check_profile(self.profile, self.base, self.target, request.scoring)
            self._opened = stack.pop_all()

    def _open(self, given: Reference | Model, role: str) -> Model:
        if isinstance(given, Model):
            return given
        return open_checkpoint(
            given,
            role,
            max_memory_bytes=self.request.limits.max_memory_bytes,
            policy=self.request.policy(role),
        )

    def _check_target(self) -> None:
        """Refuse a target of which no copy can be made; of a module none is."""

    def _plan(self, device: Device) -> Work:
        """Plan the work; on processors, if a GPU that was not asked for does not fit."""
        try:
            return self._plan_work(device)
        except MemoryBudgetError:
            if self.request.devices != ("auto",) or not device.names:
                raise
            reason = f"{device.label} does not fit the memory budgets"
            return self._plan_work(Device(reason=reason))

    def _plan_work(self, device: Device) -> Work:
        request = self.request
        return plan_work(
            self.base,
            self.target,
            request.filters,
            request.scoring,
            self.ties,
            strategies=request.strategies,
            percents=request.percents,
            approximate=request.approximate,
            profile_bytes=self.profile.memory_bytes if self.profile else None,
            downloads=self.downloads,
            pages=request.report,
            device=device,
            granularity=request.granularity,
            limits=request.limits,
            runtime_bytes=self._runtime_bytes,
        )

    @property
    def rounds_base(self) -> bool:
        """Whether base weights are rounded to the target's format, without ``--dtype``."""
        return self.request.scoring.cast is None and self.work.is_mixed

    def untie(self, differences: Mapping[str, int]) -> None:
        """Plan anew where tensors differ that a sample found tied: see ``Ties.split``.

        Raises
        ------
        PairingError
            If the configuration ties them.
        """
        self.ties = self.ties.split(differences, self.target)
        self.work = self._plan(self._device)

    def job(self) -> Job:
        """Return what the workers of all passes have in common."""
        return Job(
            inputs=Inputs(self.base, self.target),
            device=self.work.device,
            sizing=self.work.sizing,
            granularity=self.request.granularity,
            scoring=self.request.scoring,
            seed=self.request.seed,
            allow_nonfinite=self.request.allow_nonfinite,
            kernel_set=self.request.kernel_set,
        )

    def check_counts(self, cuts: Sequence[PlacedCut], restored: Sequence[Restored]) -> None:
        """Refuse weights that are not those that the cuts were made for.

        Raises
        ------
        ProfileError, InputChangedError
            If other numbers of elements were restored than the cuts select.
        """
        for placed, done in zip(cuts, restored, strict=True):
            planned, found = placed.cut.selected, sum(done.selected.values())
            if planned == found:
                continue
            counts = f"{planned:,} elements were to be restored, {found:,} were"
            inputs = f"{self.base.where} or {self.target.where}"
            if self.profile is not None:
                raise ProfileError(
                    f"profile {self.profile.path}: {inputs} changed since it was made, or while "
                    f"it was read: {counts}: scan again"
                )
            raise InputChangedError(f"{inputs} changed while it was read: {counts}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()


class Session(ModelSession):
    """Base and target in files, as a run that writes files has them.

    Parameters
    ----------
    base, target : str, path-like or Checkpoint
    request : Request
    """

    base: Checkpoint
    target: Checkpoint

    def __init__(
        self, base: Reference | Checkpoint, target: Reference | Checkpoint, request: Request
    ) -> None:
        super().__init__(base, target, request)

    def _check_target(self) -> None:
        self.target.side_files.refuse_links(self.target.where)
