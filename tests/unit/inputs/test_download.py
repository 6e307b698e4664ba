"""What is brought to disk first: sums over inputs and over several targets."""

from __future__ import annotations

from pathlib import Path

from shardrestore.inputs.download import Downloads, unite_downloads


def downloads(**needs: int) -> Downloads:
    """Downloads of some addresses, all into one folder of the cache."""
    return Downloads(
        files=(),
        needs={address: (Path("cache"), nbytes) for address, nbytes in needs.items()},
        streams=False,
        hashed=(),
        remarks=(),
    )


def test_what_several_targets_share_is_counted_once() -> None:
    united = unite_downloads([downloads(base=100, first=7), downloads(base=100, second=11)])
    assert united.nbytes == 118


def test_two_commits_of_one_repository_are_two_downloads() -> None:
    united = unite_downloads([downloads(commit_a=50), downloads(commit_b=50)])
    assert united.nbytes == 100
