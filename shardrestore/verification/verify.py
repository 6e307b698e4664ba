"""Verification of a finished model folder against its inputs and its record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..checkpoint.allowance import Allowance
from ..checkpoint.folder import Checkpoint
from ..errors import CheckpointError, MemoryBudgetError
from ..granularity import DEFAULT_GRANULARITY, Granularity
from ..inputs.download import plan_downloads
from ..inputs.reference import Reference
from ..kernels.interface import Kernels
from ..machine.compiler import compile_kernels
from ..machine.executor import Control, Stage, running
from ..machine.meter import measure_runtime, peak_resident_bytes
from ..machine.progress import Observer, SilentObserver
from ..machine.stopwatch import Stopwatch
from ..machine.threads import ThreadExecutor
from ..output.uploaded import read_uploaded
from ..plan.memory import Sizing, count_downloads
from ..plan.segment import Segment, split_pairs, twin_segments
from ..request import allow_documents, refuse_other_score
from ..scores import SCORES
from .blocks import Blocks
from .checksums import check_checksums
from .counts import check_counts, check_record
from .elements import ElementCheck
from .findings import Difference, Findings
from .hashing import hash_inputs
from .inputs import open_inputs, pair_inputs
from .layout import OutputFolder, open_output
from .outside import OutsideCheck, Piece, split_tensor
from .record import Record, read_record
from .result import Verification
from .rule import Rule
from .side_files import check_side_files
from .sizing import Load, fit
from .tally import TieTally

Task = Segment | Piece


def verify_folder(
    output: Reference,
    *,
    base: Reference | None = None,
    target: Reference | None = None,
    streamed: frozenset[str] = frozenset(),
    follow_links: bool = False,
    score: str | None = None,
    hashes_inputs: bool = False,
    workers: int | None = None,
    max_memory_bytes: int,
    observer: Observer | None = None,
    granularity: Granularity = DEFAULT_GRANULARITY,
    kernel_set: str = "cpu",
) -> Verification:
    """Check a finished model folder against its inputs.

    Nothing of what selects and writes is used, but the definitions of a score,
    of a random key and of a cast: every key is computed again, and every element
    compared with the one that the record's cut demands.

    Parameters
    ----------
    output : str or path-like
        A folder that a restoration has written, with its ``shardrestore.json``.
    base, target : str or path-like, optional
        Where the inputs are now, if not where the record says.
    score : str, optional
        What its weights must be ranked by; whatever the record says if left out.
    streamed : frozenset of str
        Roles of those that are read from the Hub, not downloaded.
    follow_links : bool
        Whether links in the inputs' folders may lead anywhere.
    hashes_inputs : bool
        Whether all weights of inputs on the Hub are compared with their hashes, again if they
        have been before.
    workers : int, optional
        Worker threads at most; one for each processor if left out.
    max_memory_bytes : int
        Budget for the whole process.
    observer : Observer, optional
        Receives the progress of the stages ``"inputs"``, if it hashes them, and ``"verify"``.
    granularity : Granularity
        How finely the work is cut; its segments must be those that the model was made with.
    kernel_set : str
        What scores weights, see ``load_kernels``.

    Returns
    -------
    Verification
        Whatever is wrong with the folder is a result, not an exception.

    Raises
    ------
    CheckpointError
        If there is no readable record, or an input is gone, changed or unreadable.
    MemoryBudgetError
        If the budget is too small.
    """
    watch = Stopwatch()
    folder, findings = _folder(output), Findings()
    runtime_bytes = measure_runtime()  # before anything is opened: that is counted by itself
    try:
        allowance = allow_documents(max_memory_bytes)
        record = read_record(folder, allowance)
        refuse_other_score(folder, record.scoring.score, score)
        check_record(record, findings)
        _refuse_uploaded(folder, record, allowance)
        with (
            open_inputs(
                record,
                base=base,
                target=target,
                max_memory_bytes=max_memory_bytes,
                follow_links=follow_links,
            ) as (opened_base, opened_target),
            open_output(folder, opened_target, record.scoring.cast, findings, allowance) as opened,
        ):
            downloads = plan_downloads(opened_base, opened_target, streamed, side_files=True)
            watched = observer or SilentObserver()
            free_bytes = max_memory_bytes - runtime_bytes
            downloads.carry_out(count_downloads(len(downloads.files), free_bytes), watched, watch)
            hashed_input_bytes = None
            if hashes_inputs:
                hashed_input_bytes = hash_inputs((opened_base, opened_target), watched)
            else:
                with downloads.checking() as content:
                    content.finish()
            expected = check_side_files(folder, opened_target, record.scoring.cast, findings)
            check_checksums(folder, expected, findings, allowance, promised=record.checksum)
            verifier = _Verifier(
                opened_base, opened_target, opened, record, findings, granularity, kernel_set
            )
            verifier.carry_out(
                workers or _count_processors(), runtime_bytes, max_memory_bytes, watched
            )
    except MemoryError as error:
        raise MemoryBudgetError(
            "the system refused memory that was planned: lower --workers or --max-memory, or "
            "raise the limit (`ulimit -v`)"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or output}: cannot be read: {error.strerror}"
        ) from error
    return Verification(
        output=folder,
        score=record.scoring.score,
        problems=findings.problems(),
        differing_elements=findings.differing_elements,
        region_elements=verifier.pairing.elements,
        selected_elements=verifier.tally.beyond + record.ties_taken,
        threshold=record.threshold,
        ties=verifier.tally.ties,
        ties_taken=record.ties_taken,
        tensors=len(opened.tensors),
        compared_bytes=sum(placed.tensor.nbytes for placed in opened.tensors.values()),
        hashed_input_bytes=hashed_input_bytes,
        seconds=watch.elapsed,
        peak_rss_bytes=peak_resident_bytes(),
    )


def _folder(output: Reference) -> Path:
    if not os.fspath(output):  # it would silently be the current folder
        raise CheckpointError("the output's name is empty: name a folder")
    try:
        return Path(output).expanduser()
    except RuntimeError as error:  # ~nobody
        raise CheckpointError(f"{os.fspath(output)}: {error}") from error


class _Verifier:
    """The comparison of one output, with everything opened."""

    def __init__(
        self,
        base: Checkpoint,
        target: Checkpoint,
        output: OutputFolder,
        record: Record,
        findings: Findings,
        granularity: Granularity,
        kernel_set: str,
    ) -> None:
        self.base = base
        self.target = target
        self.output = output
        self.record = record
        self.findings = findings
        self.granularity = granularity
        self.kernel_set = kernel_set
        self.rule = Rule.of(record)
        self.score = SCORES[record.scoring.score]
        self.pairing = pair_inputs(record, base, target, granularity.block_bytes)
        self.segments = split_pairs(self.pairing.pairs, granularity.segment_elements)
        self.tally = TieTally(len(self.segments))

    def carry_out(
        self, workers: int, runtime_bytes: int, max_memory_bytes: int, observer: Observer
    ) -> None:
        """Compare everything, then the counts."""
        tasks = self._plan_tasks()
        sizing = fit(
            self._measure(len(tasks), runtime_bytes),
            max_workers=max(min(workers, len(tasks)), 1),
            max_memory_bytes=max_memory_bytes,
        )
        observer.begin("verify", sum(map(self.count_bytes, tasks)))
        try:
            self._compare(tasks, sizing, observer)
        finally:
            observer.end()
        check_counts(self.record, self.pairing, self.tally, self.findings)

    def _compare(self, tasks: Sequence[Task], sizing: Sizing, observer: Observer) -> None:
        kernels = compile_kernels(self.kernel_set, self.score)
        stage = Stage(
            name="verify",
            open_worker=partial(_Checker, self, kernels, sizing),
            work=_Checker.check,
        )
        executor = ThreadExecutor()
        with running(executor, stage, tasks, sizing.workers, observer, self._hang_up) as results:
            for _, difference in results:
                if difference is not None:
                    self.findings.differ(difference)

    def _hang_up(self) -> None:
        for checkpoint in (self.base, self.target):
            checkpoint.hang_up()

    def _plan_tasks(self) -> list[Task]:
        """List segments in canonical order, as the tally needs; then everything else."""
        segment_elements = self.granularity.segment_elements
        twins = twin_segments(self.pairing.twins, self.segments, segment_elements)
        region = {pair.name for pair in (*self.pairing.pairs, *self.pairing.twins)}
        pieces = [
            piece
            for name, tensor in self.target.tensors.items()
            if name not in region and name in self.output.tensors
            for piece in split_tensor(tensor, self.output.tensors[name], segment_elements)
        ]
        compared = [twin for twin in twins if twin.pair.name in self.output.tensors]
        return [*self.segments, *compared, *pieces]

    def _measure(self, tasks: int, runtime_bytes: int) -> Load:
        parts = [self.base.footprint(), self.target.footprint(), self.output.footprint()]
        return Load(
            granularity=self.granularity,
            runtime_bytes=runtime_bytes,
            tensors=len(self.output.tensors) + sum(part.tensors for part in parts),
            header_bytes=sum(part.header_bytes for part in parts),
            document_bytes=sum(part.document_bytes for part in parts),
            files=sum(part.files for part in parts),
            tasks=tasks,
        )

    def count_bytes(self, task: Task) -> int:
        """Return how many bytes a task stands for: each that it looks at, once."""
        if isinstance(task, Piece):
            return task.nbytes
        pair = task.pair
        sides: Sequence[int] = (pair.base.nbytes, pair.target.nbytes)
        placed = self.output.tensors.get(pair.name)
        total = sum(sides) + (placed.tensor.nbytes if placed else 0)
        return total * task.elements // pair.target.elements


class _Checker:
    """One worker of a verification."""

    def __init__(
        self, verifier: _Verifier, kernels: Kernels, sizing: Sizing, control: Control
    ) -> None:
        self._verifier = verifier
        self._control = control
        blocks = Blocks(
            verifier.base,
            verifier.target,
            kernels,
            verifier.score,
            verifier.rule.seed,
            sizing.block_bytes,
            verifier.granularity.compared_elements,
            control,
        )
        self._region = ElementCheck(blocks, verifier.rule, verifier.granularity.turns)
        self._outside = OutsideCheck(blocks)

    def check(self, task: Task) -> Difference | None:
        """Return what is wrong with a task's elements, if anything is."""
        found = (
            self._outside.compare(task) if isinstance(task, Piece) else self._check_segment(task)
        )
        self._control.advance(self._verifier.count_bytes(task))
        return found

    def _check_segment(self, segment: Segment) -> Difference | None:
        tally = self._verifier.tally
        if not segment.pair.twin:
            ties, beyond = self._region.count(segment)
            tally.publish(segment.number, ties=ties, beyond=beyond)
        placed = self._verifier.output.tensors.get(segment.pair.name)
        if placed is None:
            return None
        first_tie = tally.first_tie(segment.number, self._control.check)
        return self._region.compare(segment, placed, first_tie)


def _refuse_uploaded(folder: Path, record: Record, allowance: Allowance) -> None:
    """Refuse a folder whose weights were deleted after their upload; say where they are."""
    uploaded = read_uploaded(folder, allowance)
    names = [shard.name for shard in record.target.shards]
    if uploaded is not None and not all((folder / name).is_file() for name in names):
        raise CheckpointError(uploaded.describe(folder))


def _count_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
