from pathlib import Path

import torch

from actors.embedded.trainer import ClipTrainer, ClipTrainerConfig

SMALL = ClipTrainerConfig(steps=4, batch_size=8, warmup=1, save_every=2)


def test_a_run_that_was_broken_off_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = ClipTrainer(SMALL)
    losses = [metrics["loss"] for metrics in whole.train()]
    broken = ClipTrainer(SMALL)
    steps = broken.train()
    first = [next(steps)["loss"], next(steps)["loss"]]
    broken.save(tmp_path / "state.pt")
    resumed = ClipTrainer(SMALL)
    resumed.load(tmp_path / "state.pt")
    rest = [metrics["loss"] for metrics in resumed.train()]
    assert first + rest == losses
    assert len(losses) == 4
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_rows_of_the_token_table_that_no_caption_uses_stay_as_drawn() -> None:
    trainer = ClipTrainer(SMALL)
    before = trainer.model.token_embedding.weight.detach().clone()
    for _ in trainer.train():
        pass
    changed = (trainer.model.token_embedding.weight.detach() != before).any(dim=1)
    assert 0 < changed.sum() < 400
