"""Optimisers of a recipe, as settings. No torch."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ensemble.config import Config
from ensemble.errors import UnknownNameError

Rate = Annotated[float, Field(gt=0, le=10)]
Decay = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class SgdConfig(Config):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    """Name of the optimiser."""
    lr: Rate = 0.05
    """Peak learning rate, which the schedule multiplies by a factor from 0 to 1."""
    momentum: Fraction = 0.9
    """Share of the last step that the next one keeps."""
    nesterov: bool = True
    """Use Nesterov's momentum, whose gradient is taken one step ahead."""
    weight_decay: Decay = 5e-4
    """Factor of the weights that is added to their gradient, an L2 penalty."""
    rule: Literal["torch", "paper"] = "torch"
    """Where the learning rate stands in the velocity: torch multiplies it by the rate when the weights change, and
    `paper`, v := momentum v - weight_decay lr w - lr g, w := w + v, when it is updated, so that steps keep their size
    for a while after the rate drops. Source: Krizhevsky et al. 2012, section 5."""

    @model_validator(mode="after")
    def _paper_has_no_nesterov(self) -> "SgdConfig":
        if self.rule == "paper" and self.nesterov:
            raise ValueError("rule=paper has no Nesterov momentum; set nesterov=false too.")
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SgdConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov=true needs momentum > 0; set nesterov=false or momentum=0.9."
            )
        return self


class AdamWConfig(Config):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    """Name of the optimiser."""
    lr: Rate = 2e-3
    """Peak learning rate, which the schedule multiplies by a factor from 0 to 1."""
    beta1: Fraction = 0.9
    """Decay, per step, of the running mean of the gradients."""
    beta2: Fraction = 0.999
    """Decay, per step, of the running mean of the squared gradients."""
    weight_decay: Decay = 0.05
    """Share by which a step shrinks the weights, before it is multiplied by the learning rate."""


class NamedOptimizerConfig(Config):
    """Any optimiser of timm's list, which has torch's too, by its name."""

    kind: Literal["timm"] = "timm"
    """Name of the list."""
    name: str
    """Name of the optimiser, as lamb, lion, nadam, adadelta or muon."""
    lr: Rate
    """Peak learning rate, which the schedule multiplies by a factor from 0 to 1."""
    weight_decay: Decay = 0.0
    """Weight decay, as the optimiser understands it."""
    options: dict[str, float | bool | tuple[float, ...]] = Field(default_factory=dict)
    """Further arguments of the optimiser, by name."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        # Only here: the import takes seconds.
        from timm.optim import list_optimizers

        # A wrapper around another optimiser keeps a state that no checkpoint of this project holds.
        names = [known for known in list_optimizers() if not known.startswith("lookahead")]
        if name not in names:
            raise ValueError(str(UnknownNameError.of("optimiser", name, names)))
        return name


Optimizer = Annotated[SgdConfig | AdamWConfig | NamedOptimizerConfig, Field(discriminator="kind")]
