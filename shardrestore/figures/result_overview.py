"""From a result that is at hand to its overview."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .model import ModelFigures, TensorResult
from .overview import Overview, OverviewCut, TensorOverview, make_cells


def overview_of_model(
    figures: ModelFigures, output: Path, inputs: Mapping[str, Any], options: Mapping[str, Any]
) -> Overview:
    """Return the overview of a restored model, as its finished folder would give it.

    Parameters
    ----------
    figures : ModelFigures
    output : Path
        Its folder.
    inputs : mapping
        Identities of ``base`` and ``target``, as JSON values.
    options : mapping
        The options that decided the result, as JSON values.
    """
    tensors = tuple(map(overview_of_tensor, figures.tensors))
    return Overview(
        source=output,
        origin="run",
        inputs=inputs,
        options=options,
        elements=figures.cut.region_elements,
        unchanged_share=figures.changes.unchanged_share,
        zero_base_share=figures.changes.zero_base_share,
        nonfinite=figures.changes.nonfinite,
        regions=(),
        kinds=(),
        layers=(),
        cuts=(OverviewCut(choice=figures.choice, figures=figures.cut),),
        cells=make_cells(tensors),
        tensors=tensors,
        unpaired={},
        notes=figures.notes,
    )


def overview_of_tensor(tensor: TensorResult) -> TensorOverview:
    """Return what an overview with one cut says of a tensor."""
    return TensorOverview(
        name=tensor.name,
        tower=tensor.tower,
        layer=tensor.layer,
        kind=tensor.kind,
        module=tensor.module,
        elements=tensor.elements,
        mean_score=tensor.mean_score,
        unchanged_share=None,
        restored=(tensor.restored,),
    )
