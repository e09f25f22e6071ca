"""Centres and Sinkhorn-Knopp over two processes, against one that has all rows."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kernels.distillation import moved_centre, sinkhorn

ROWS = 7
SHARES = (slice(0, 5), slice(5, 7))
"""Uneven: masked patches are."""


def logits() -> torch.Tensor:
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(0))


def share_out(rank: int, folder: str) -> None:
    """What each of the two processes does with its rows."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mine = logits()[SHARES[rank]]
    torch.save(
        {"probs": sinkhorn(mine, 0.07), "centre": moved_centre(torch.ones(6), mine, 0.9)},
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


def test_uneven_shares_make_the_same_targets_and_centre(tmp_path: Path) -> None:
    mp.spawn(share_out, args=(str(tmp_path),), nprocs=2)
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    probs = torch.cat([share["probs"] for share in shares])
    assert torch.allclose(probs, sinkhorn(logits(), 0.07), atol=1e-6)
    for share in shares:
        assert torch.allclose(share["centre"], moved_centre(torch.ones(6), logits(), 0.9))
