"""AdamW and its learning rate as published; gradients are summed once per optimizer step.

The tuned parameters are few (18 MB for 7B), so one sum of one flat tensor at the end of an
accumulation window is all the traffic there is; DistributedDataParallel would need a bucket and
a hook for each tensor, and to know which ones a text-only batch leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adem_bench.errors import CheckpointError
from adem_bench.records import Json
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.distributed import ProcessGroup

MOMENTS = ("exp_avg", "exp_avg_sq")


def peak_learning_rate(recipe: RecipeCard) -> float:
    """Return the base rate scaled by the effective batch: 9e-3 * 32 / 256 = 1.125e-3."""
    return recipe.base_learning_rate * recipe.effective_batch / 256


def learning_rate(epoch: float, recipe: RecipeCard) -> float:
    """Return the learning rate at a fractional epoch.

    Source: ADEM-VL cec09b8 `util/lr_sched.py`.
    """
    peak, lowest = peak_learning_rate(recipe), recipe.min_learning_rate
    if epoch < recipe.warmup_epochs:
        return peak * epoch / recipe.warmup_epochs
    progress = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """What an optimizer step did."""

    grad_norm: float
    """Of the gradients, averaged over all processes, before any clipping."""
    skipped: bool
    """Whether a gradient was not finite, or no micro-batch counted: nothing was changed."""
    summed: tuple[float, ...]
    """The figures handed in, summed over all processes."""


class AdapterOptimizer:
    """The optimizer of one adapter, its loss scale included."""

    def __init__(
        self,
        tensors: Mapping[str, nn.Parameter],
        without_gradient: frozenset[str],
        recipe: RecipeCard,
        group: ProcessGroup,
        scaled: bool,
        skips_nan_loss: bool = False,
    ) -> None:
        """Make AdamW for `tensors`.

        Args:
            tensors: The adapter's parameters under their published names.
            without_gradient: Names that have no gradient before some row had an image, or ever.
            recipe: Its hyper-parameters.
            group: The processes that train together.
            scaled: Whether losses are scaled, as half precision needs.
            skips_nan_loss: The method's rule for losses that are not numbers.
        """
        self._tensors = dict(tensors)
        self._recipe, self._group = recipe, group
        self._skips_nan_loss = skips_nan_loss
        self._counted = self._left_out = 0  # micro-batches of the window
        groups = parameter_groups(self._tensors, recipe.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, eps=1e-8)
        device = next(iter(self._tensors.values())).device.type
        self._scaler = torch.amp.GradScaler(device, enabled=scaled)
        # PyTorch 1.13, which the published code ran on, keeps zeros where there was a gradient
        # once: such tensors still decay in a step without any (docs/method.md, section 8.1).
        for name, parameter in self._tensors.items():
            parameter.grad = None if name in without_gradient else torch.zeros_like(parameter)

    @property
    def scale(self) -> float:
        """The loss scale; 1 where there is none."""
        return float(self._scaler.get_scale())

    def accumulate(self, losses: Iterable[Tensor], accumulation: int) -> float:
        """Add a micro-batch's gradients to the window's; return its loss.

        A loss that is not a number leaves the step to the check for finite gradients (Q23), or
        leaves out its micro-batch, all parts of it, and the step is made of the others (L7): as
        the method has it.

        Args:
            losses: Of the micro-batch's parts, which add up to its own; taken one by one.
            accumulation: Micro-batches of the window.
        """
        tensors = self._tensors.values()
        skips = self._skips_nan_loss
        before = [None if p.grad is None else p.grad.clone() for p in tensors if skips]
        total = 0.0
        for loss in losses:
            self.backward(loss, accumulation)
            total += loss.item()
        if skips and math.isnan(total):
            for parameter, gradient in zip(tensors, before, strict=True):
                parameter.grad = gradient
            self._left_out += 1
        else:
            self._counted += 1
        return total

    def backward(self, loss: Tensor, accumulation: int) -> None:
        """Add the gradients of a part of a micro-batch to the window's.

        A loss that is not a number is replaced by zero times itself (Q23; ADEM-VL cec09b8
        `engine.py`).
        """
        if not loss.requires_grad:
            return  # rows without image reach no tensor of some methods
        loss = torch.where(loss.isnan(), loss.nan_to_num() * 0, loss)
        self._scaler.scale(loss / accumulation).backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float, figures: tuple[float, ...]) -> OptimizerStep:
        """End an accumulation window: average gradients, step, and clear them.

        Args:
            learning_rate: Of this step.
            figures: Numbers to sum over all processes together with the gradients.
        """
        *summed, counted, left_out = self._exchange(
            (*figures, float(self._counted), float(self._left_out))
        )
        self._counted = self._left_out = 0
        if left_out and not counted:
            self._optimizer.zero_grad(set_to_none=False)
            return OptimizerStep(0.0, True, tuple(summed))
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = learning_rate
        self._scaler.unscale_(self._optimizer)
        given = [p for p in self._tensors.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in given if p.grad is not None])
        if self._recipe.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(given, self._recipe.max_grad_norm, norm)
        finite = bool(norm.isfinite())
        if not given:
            return OptimizerStep(0.0, False, tuple(summed))
        if self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
        elif finite:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        return OptimizerStep(float(norm), not finite, tuple(summed))

    def _exchange(self, figures: tuple[float, ...]) -> tuple[float, ...]:
        """Average gradients over all processes; return the sums of the figures.

        A tensor gets a gradient if any process has one.
        """
        if self._group.world_size == 1:
            return figures
        parameters = list(self._tensors.values())
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = torch.tensor([float(p.grad is not None) for p in parameters])
        tail = torch.cat([present, torch.tensor(figures)]).to(parts[0].device)
        flat = torch.cat([*(part.flatten() for part in parts), tail])
        self._group.all_reduce(flat)
        summed = flat[len(flat) - len(tail) :].tolist()
        start = 0
        for parameter, count in zip(parameters, summed, strict=False):
            end = start + parameter.numel()
            if count:
                mean = flat[start:end].view_as(parameter) / self._group.world_size
                parameter.grad = mean
            start = end
        return tuple(summed[len(parameters) :])

    def state_tensors(self) -> dict[str, Tensor]:
        """Return AdamW's moments and step counts by `TENSOR.exp_avg` and so on."""
        found: dict[str, Tensor] = {}
        for name, parameter in self._tensors.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                found[f"{name}.{key}"] = value
        return found

    def scaler_state(self) -> dict[str, Json]:
        """Return the loss scaler's state."""
        return dict(self._scaler.state_dict())

    def load_state(self, tensors: Mapping[str, Tensor], scaler: Mapping[str, Any]) -> None:
        """Take up what `state_tensors` and `scaler_state` returned.

        Raises:
            CheckpointError: it is no such state, or one of other tensors.
        """
        left = dict(tensors)
        for name, parameter in self._tensors.items():
            names = {key: f"{name}.{key}" for key in ("step", *MOMENTS)}
            found = {key: left.pop(names[key]) for key in names if names[key] in left}
            if not found:
                continue  # it had no gradient
            for key in names:
                part, shape = found.get(key), () if key == "step" else parameter.shape
                if part is None or part.dtype != parameter.dtype or part.shape != shape:
                    raise CheckpointError(
                        f"its optimizer has no {name}.{key} of shape {tuple(shape)} in "
                        f"{str(parameter.dtype).removeprefix('torch.')}"
                    )
            if not found["step"] >= 0:  # a NaN is neither
                raise CheckpointError(f"its optimizer's {name}.step is {found['step']:g}")
            moments = {key: found[key].to(parameter.device) for key in MOMENTS}
            self._optimizer.state[parameter] = {"step": found["step"], **moments}
            parameter.grad = torch.zeros_like(parameter)
        if left:
            raise CheckpointError(f"its optimizer has {min(left)!r}, which is not the adapter's")
        if lacking := self._scaler.state_dict().keys() - (scaler or self.scaler_state()).keys():
            raise CheckpointError(f"its loss scaler lacks {min(lacking)}")
        if scaler:
            self._scaler.load_state_dict(dict(scaler))


def parameter_groups(
    tensors: Mapping[str, nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Return AdamW's groups: the projectors' biases undecayed, then everything else.

    Source: timm 0.6.5 `param_groups_weight_decay`, as ADEM-VL uses it: no decay for names in
    `.bias` and for tensors of one dimension; the embeddings have three and decay.
    """
    is_undecayed = {
        name: tensor.ndim <= 1 or name.endswith(".bias") for name, tensor in tensors.items()
    }
    undecayed = [tensor for name, tensor in tensors.items() if is_undecayed[name]]
    decayed = [tensor for name, tensor in tensors.items() if not is_undecayed[name]]
    return [
        {"params": undecayed, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
    ]
