"""``shardrestore demo``: a pair of small models, and one of them restored."""

from __future__ import annotations

from .options import takes_options
from .outcome import print_result
from .plan import describe as describe_plan
from .progress import ProgressBars
from .summary import describe as describe_run


@takes_options()
def demo(folder: str) -> None:
    """Make two small models (202 MB) and restore 10 %."""
    import shardrestore

    print_result(f"making a base and a target of random weights in {folder} …")
    base, target = shardrestore.make_demo_pair(folder)
    output = base.parent / "restored"
    print_result(f"\n$ shardrestore plan --base {base} --target {target} -k 10")
    print_result(describe_plan(shardrestore.plan(base, target, output, percent=10, overwrite=True)))
    print_result(
        f"\n$ shardrestore run --base {base} --target {target} --output {output} -k 10 --overwrite"
    )
    result = shardrestore.restore(
        base, target, output, percent=10, overwrite=True, observer=ProgressBars(quiet=False)
    )
    print_result(describe_run(result))
