"""The pretrained teacher's adapter, as methods take it over."""

from torch import Tensor

from models.methods.adapted import exactly
from models.moment_adapter import MomentAdapter


def adapter_weights(teacher: dict[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's weights among a teacher's, by their names inside the adapter."""
    tensors = {name.removeprefix("adapter."): tensor for name, tensor in teacher.items()}
    return {name: tensor for name, tensor in tensors.items() if name.startswith("blocks.")}


def take_over(adapter: MomentAdapter, teacher: dict[str, Tensor], method: str) -> None:
    """Sets the adapter's weights to the teacher's, by their names or with `adapter.` in front.

    Other tensors are left aside. Raises ValueError if those of the adapter do not fit.
    """
    weights = adapter_weights(teacher)
    expected = {name: tuple(t.shape) for name, t in adapter.state_dict().items()}
    exactly(weights, expected, f"teacher's adapter in a {method}")
    adapter.load_state_dict(weights)
