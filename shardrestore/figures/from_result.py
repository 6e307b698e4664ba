"""From a result that is at hand to its overview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..pairing.regions import locate
from .overview import Overview, OverviewCut, TensorOverview, make_cells
from .restoration import Restoration, TensorResult


def overview_of_result(
    result: Restoration, inputs: Mapping[str, Any], options: Mapping[str, Any]
) -> Overview:
    """Return the overview of a restoration, as its finished folder would give it.

    Parameters
    ----------
    result : Restoration
    inputs : mapping
        Identities of ``base`` and ``target``, as JSON values.
    options : mapping
        The options that decided the result, as JSON values.
    """
    tensors = tuple(map(_describe_tensor, result.tensors))
    return Overview(
        source=result.output,
        origin="run",
        inputs=inputs,
        options=options,
        elements=result.region_elements,
        unchanged_share=result.unchanged_share,
        zero_base_share=result.zero_base_share,
        nonfinite=result.nonfinite,
        regions=(),
        kinds=(),
        layers=(),
        cells=make_cells(tensors),
        tensors=tensors,
        cuts=(
            OverviewCut(
                region=result.region,
                strategy=result.strategy,
                percent=result.percent,
                region_elements=result.region_elements,
                selected_elements=result.selected_elements,
                threshold=result.threshold,
                exact=result.exact,
            ),
        ),
        unpaired={},
    )


def _describe_tensor(tensor: TensorResult) -> TensorOverview:
    return TensorOverview(
        name=tensor.name,
        tower=locate(tensor.name, ()).tower,
        layer=tensor.layer,
        kind=tensor.kind,
        module=tensor.module,
        elements=tensor.elements,
        mean_score=tensor.mean_score,
        unchanged_share=None,
        restored=(tensor.restored,),
    )
