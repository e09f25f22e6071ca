"""Several members of a search trained as one model: parameters stacked, a budget for each."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from models.methods.adapted import Adapted, Method, Watch, WatchMany, val_metrics
from models.methods.descent import EVALUATIONS, is_evaluated, lr_at
from models.methods.selection import Selection
from models.task import Task

BYTES_ON_CPU = 32 << 20
SHARE_OF_GPU = 0.25
ACTIVATIONS_PER_BLOCK = 16
"""Times a token's width that a transformer block keeps for its backward pass."""

Learned = tuple[dict[str, Tensor], Selection]
"""A member's parameters at the end of its budget, and what val says of them."""


class BatchedMethod(Method):
    """A method whose `fit_many` trains several members in one batch; `fit` is a batch of one."""

    varying: ClassVar[frozenset[str]]
    """Hyper-parameters in which members of a batch may differ; the others shape what is computed,
    so members that differ in one of them are in different batches."""

    @classmethod
    def fit(
        cls,
        task: Task,
        hyper: Any,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> Any:
        def go_on(_: int, metrics: dict[str, float]) -> bool:
            if watch is not None:
                watch(metrics)
            return True

        (adapted,) = cls.fit_many(task, [hyper], seed, teacher, watch and go_on)
        return adapted

    @classmethod
    def fit_many(
        cls,
        task: Task,
        hypers: Sequence[Any],
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: WatchMany | None = None,
    ) -> list[Adapted | None]:
        groups: dict[Hashable, list[int]] = {}
        for member, hyper in enumerate(hypers):
            groups.setdefault(cls.shape(hyper), []).append(member)
        adapted: list[Adapted | None] = [None] * len(hypers)
        for group in groups.values():
            size = members_at_once(cls.member_bytes(task, hypers[group[0]]), task.text.device)
            for batch in split(group, size):
                watch_batch = watch and _renumbered(watch, batch)
                models = cls.fit_batch(task, [hypers[m] for m in batch], seed, teacher, watch_batch)
                for member, model in zip(batch, models, strict=True):
                    adapted[member] = model
        return adapted

    @classmethod
    def shape(cls, hyper: Any) -> Hashable:
        """Equal for members that one batch can hold."""
        return replace(hyper, **dict.fromkeys(cls.varying))

    @staticmethod
    @abstractmethod
    def member_bytes(task: Task, hyper: Any) -> int:
        """What one member's step keeps for its backward pass, roughly."""

    @staticmethod
    @abstractmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[Any],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> Sequence[Adapted | None]:
        """`fit_many` for members of one shape, as many as there is room for."""


class Population:
    """k members' parameters, stacked, and an optimizer for each member.

    The loss is computed from `stacked` for all members at once. No member's loss depends on another
    one's parameters, so the gradient of their sum holds that of each. `parameters` are views of the
    same memory, by which each member's optimizer steps it, with its own learning rates and decay.
    """

    def __init__(
        self,
        starts: Sequence[Mapping[str, Tensor]],
        optimizer: Callable[[int, dict[str, nn.Parameter]], Optimizer],
    ) -> None:
        """starts: of each member, by name. optimizer: of a member, given its parameters."""
        self.members = list(range(len(starts)))
        """The members still trained, in the order of the stack."""
        self.stacked = {
            name: torch.stack([start[name].detach() for start in starts]).requires_grad_()
            for name in starts[0]
        }
        """Each parameter of all members, (k, …)."""
        self.parameters = [
            {name: nn.Parameter(stack.detach()[i]) for name, stack in self.stacked.items()}
            for i in self.members
        ]
        self._optimizers = [
            optimizer(i, parameters) for i, parameters in enumerate(self.parameters)
        ]
        self._rates = [[g["lr"] for g in o.param_groups] for o in self._optimizers]

    def of_members(self, values: Sequence[float]) -> Tensor:
        """(k,) of these values those of the members still trained; values: of all members."""
        device = next(iter(self.stacked.values())).device
        return torch.tensor([values[m] for m in self.members], device=device)

    def set_rates(self, step: int, budgets: Sequence[int], warm_up: int) -> None:
        """Sets every member's learning rates at this step of its own budget."""
        for m in self.members:
            groups = self._optimizers[m].param_groups
            for group, lr in zip(groups, self._rates[m], strict=True):
                group["lr"] = lr_at(lr, step, budgets[m], warm_up)

    def step(self, parts: Iterable[Tensor]) -> Tensor:
        """One step of every member; parts: (k,) each, their sum is the losses. Returns it."""
        total = torch.zeros(())
        for stack in self.stacked.values():
            stack.grad = None
        for part in parts:
            part.sum().backward()
            total = total + part.detach()
        for name, stack in self.stacked.items():
            assert stack.grad is not None
            for m, gradient in zip(self.members, stack.grad.unbind(), strict=True):
                self.parameters[m][name].grad = gradient
        for m in self.members:
            self._optimizers[m].step()
        return total

    def leave(self, gone: Sequence[int]) -> None:
        """Closes the stack up behind members that ended; `parameters` has what they learned."""
        if not gone:
            return
        places = [i for i, m in enumerate(self.members) if m not in gone]
        for m in gone:
            self.parameters[m] = {
                n: nn.Parameter(p.detach().clone()) for n, p in self.parameters[m].items()
            }
        self.members = [self.members[i] for i in places]
        for name, stack in self.stacked.items():
            self.stacked[name] = closed = stack.detach()[places].requires_grad_()
            for i, m in enumerate(self.members):
                self.parameters[m][name].data = closed.detach()[i]


def descend_together(
    population: Population,
    losses: Callable[[], Iterable[Tensor]],
    budgets: Sequence[int],
    warm_up: int,
    watch: WatchMany | None,
    select: Callable[[int, dict[str, nn.Parameter]], Selection],
    evaluations: int = EVALUATIONS,
) -> list[Learned | None]:
    """`descend` for all members of a population; None for a member that `watch` has stopped.

    losses: called once a step, the parts (k,) of the current members' losses. budgets: steps of
    each member. warm_up: see `descend`. select: what val says of a member and its parameters, asked
    at its `evaluations` points and at its end.
    """
    selections: list[Selection | None] = [None] * len(budgets)
    ended = [m for m, budget in enumerate(budgets) if not budget]
    for m in ended:
        selections[m] = select(m, population.parameters[m])
    population.leave(ended)
    for step in range(max(budgets)):
        if not population.members:
            break
        population.set_rates(step, budgets, warm_up)
        loss, gone = population.step(losses()), []
        for i, m in enumerate(population.members):
            due = watch is not None and is_evaluated(step, budgets[m], evaluations)
            ends = step + 1 == budgets[m]
            if not (due or ends):
                continue
            selection = select(m, population.parameters[m])
            metrics = {"step": step + 1, "loss": loss[i].item(), **val_metrics(selection)}
            goes_on = not due or watch is None or watch(m, metrics)
            if ends and goes_on:
                selections[m] = selection
            if ends or not goes_on:
                gone.append(m)
        population.leave(gone)
    pairs = zip(population.parameters, selections, strict=True)
    return [(dict(parameters), selection) if selection else None for parameters, selection in pairs]


def sgd(parameters: Mapping[str, nn.Parameter], hyper: Any, factor: float = 1.0) -> torch.optim.SGD:
    """A member's optimizer by the fields lr (times a factor), momentum and weight_decay.

    Fused, as a population's optimizers are: what is done once for each member has to cost little.
    """
    lr, momentum, decay = hyper.lr * factor, hyper.momentum, hyper.weight_decay
    return torch.optim.SGD(parameters.values(), lr, momentum, weight_decay=decay, fused=True)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """(k, B, C) logits and (B,) labels to each member's loss of each image, (k, B)."""
    k, B, _ = logits.shape
    each = cross_entropy(logits.flatten(0, 1), labels.repeat(k), reduction="none")
    return each.view(k, B)


def members_at_once(member_bytes: int, device: torch.device) -> int:
    """Members of a batch: what a CPU's caches hold of their activations, or a quarter of what this
    process may take of a GPU.

    Members together pay while the products of one are small, as with a few prompts in a small text
    tower; adapter blocks over the tokens of tens of images fill a core alone.
    """
    bound = float(BYTES_ON_CPU)
    if device.type == "cuda":
        fraction = torch.cuda.get_per_process_memory_fraction(device)
        bound = SHARE_OF_GPU * fraction * torch.cuda.get_device_properties(device).total_memory
    return max(1, int(bound / member_bytes))


def tower_bytes(rows: int, tokens: int, width: int, blocks: int) -> int:
    """What transformer blocks keep for their backward pass, in float32."""
    return 4 * rows * tokens * width * blocks * ACTIVATIONS_PER_BLOCK


def split(members: Sequence[int], size: int) -> list[list[int]]:
    """The members in their order, `size` at once."""
    return [list(members[i : i + size]) for i in range(0, len(members), size)]


def _renumbered(watch: WatchMany, members: Sequence[int]) -> WatchMany:
    return lambda i, metrics: watch(members[i], metrics)
