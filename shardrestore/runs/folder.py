"""What a model folder has besides its shards: reports, card, side files, index, checksums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoint.config import recast_config
from ..checkpoint.index import encode_index
from ..figures.detail import Detail
from ..figures.model import ModelFigures
from ..figures.result_overview import overview_of_model
from ..figures.side_files import describe_side_files
from ..machine.executor import Control, Stage
from ..machine.stopwatch import Stopwatch
from ..names import CARD_FILE, CHECKSUM_FILE, CONFIG_FILE, PAGE_FILE
from ..output.acceptance import check_accepted
from ..output.card import output_name, read_card
from ..output.checksum import encode_checksums, hash_file
from ..output.staging import Staging
from ..passes.context import Context
from ..plan.layout import OutputShard
from ..report.card import encode_card
from ..report.files import encode_reports
from ..report.page import encode_page
from .description import describe_costs
from .session import Session


class FolderWriter:
    """Completes the model folders of a run.

    Parameters
    ----------
    session : Session
    watch : Stopwatch
    context : Context
        Its workers compute checksums.
    """

    def __init__(self, session: Session, watch: Stopwatch, context: Context) -> None:
        self._session = session
        self._context = context
        self._watch = watch
        self._inputs = {"base": session.base.identity(), "target": session.target.identity()}
        self._files = describe_side_files(session.target.side_files)
        self._config = recast_config(session.target.config, session.request.scoring.cast)

    def complete(
        self,
        staging: Staging,
        figures: ModelFigures,
        detail: Detail | None,
        sent: Mapping[str, str],
        sink_files: Sequence[str],
    ) -> list[str]:
        """Complete a model folder; return its files in the order they get their names.

        Parameters
        ----------
        staging : Staging
            Holds all shards except those in `sent`.
        figures : ModelFigures
        detail : Detail or None
            What its page shows; None without a page.
        sent : mapping
            SHA-256 of each shard that is not here.
        sink_files : sequence of str
            Files that the sink of the shards will add.
        """
        choice = figures.choice
        options = self._session.request.record(choice.region, choice.strategy, choice.percent)
        for model in (self._session.base, self._session.target):
            model.check_unchanged()
        files = self._write_reports(staging, figures, options)
        copied = self._copy_side_files(staging, files)
        shards = [shard.filename for shard in self._session.work.shards]
        here = [name for name in shards if name not in sent]
        for name in here:
            check_accepted(staging.folder / name)
        index = self._session.target.index
        if index is not None:
            staging.write_file(index, _index(self._session.work.shards))
            here.append(index)
        names = [*copied, *files, *here]
        if self._session.request.checksum:
            staging.write_file(CHECKSUM_FILE, self._sum_up(staging, names, sent))
            names.insert(0, CHECKSUM_FILE)
        if detail is not None:
            overview = overview_of_model(figures, staging.output, self._inputs, options)
            read_bytes = self._session.work.read_bytes
            so_far = describe_costs(self._session, self._watch, read_bytes=read_bytes)
            staging.write_file(PAGE_FILE, encode_page(overview, detail, costs=so_far))
            names.insert(0, PAGE_FILE)
        # Before the index, without which no model is whole.
        end = len(names) - (index is not None)
        return [*names[:end], *sink_files, *names[end:]]

    def _write_reports(
        self, staging: Staging, figures: ModelFigures, options: Mapping[str, Any]
    ) -> list[str]:
        files = encode_reports(
            figures,
            self._inputs,
            options,
            self._files,
            checksum=self._session.request.checksum,
        )
        files[CARD_FILE] = self._encode_card(figures, options)
        if self._config is not None:
            files[CONFIG_FILE] = self._config
        for name, content in files.items():
            staging.write_file(name, content)
        return list(files)

    def _copy_side_files(self, staging: Staging, written: Sequence[str]) -> list[str]:
        """Copy the target's side files, except those of which there are new ones."""
        copied = {output_name(file.name): file for file in self._session.target.side_files.copied}
        copied = {name: file for name, file in copied.items() if name not in written}
        for name, file in copied.items():
            file.check_unchanged()
            staging.copy_file(name, file.fetch(), file.nbytes)
            file.check_unchanged()
        return list(copied)

    def _encode_card(self, figures: ModelFigures, options: Mapping[str, Any]) -> bytes:
        """Return the model card, which continues the target's own, if it has one."""
        copied = self._session.target.side_files.copied
        cards = [file for file in copied if file.name == CARD_FILE]
        return encode_card(
            figures,
            self._inputs,
            options,
            self._files,
            inherited=read_card(cards[0].fetch()) if cards else {},
            kept_card=output_name(CARD_FILE) if cards else None,
        )

    def _sum_up(self, staging: Staging, names: Sequence[str], known: Mapping[str, str]) -> bytes:
        """Return the checksums of staged files; shards were written in no order to hash them."""
        open_worker = partial(_Hasher, staging.folder)
        stage = Stage(name="checksum", open_worker=open_worker, work=_Hasher.hash)
        with self._context.run(stage, names) as found:
            return encode_checksums({**known, **dict(found)})


class _Hasher:
    """One worker that hashes files of a folder."""

    def __init__(self, folder: Path, control: Control) -> None:
        self._folder = folder
        self._control = control

    def hash(self, name: str) -> str:
        """Return the checksum of a file."""
        return hash_file(self._folder / name, self._control.check)


def _index(shards: Sequence[OutputShard]) -> bytes:
    weight_map = {name: shard.filename for shard in shards for name in shard.tensors}
    total = sum(tensor.nbytes for shard in shards for tensor in shard.tensors.values())
    return encode_index(weight_map, total)
