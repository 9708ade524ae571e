"""Code that gives the candidate's optimiser what the reference's has."""

from __future__ import annotations

from collections.abc import Callable

from porting_check.numerics.optimizers import Rule

Write = Callable[[Rule], str]


def fix(cause: str, framework: str, reference: Rule) -> str:
    """Code for the candidate's framework, with the reference's numbers; ``""`` where there is no short answer.

    Example:
        >>> fix("learning-rate", "torch", Rule(family="sgd", rates=(0.1,)))
        'lr=0.1'
    """
    write = FIXES.get((cause, framework))
    return write(reference) if write else ""


def _torch_decay(rule: Rule) -> str:
    if rule.decay == "decoupled" and rule.family == "adam":
        return f"torch.optim.AdamW(parameters, lr={rule.rate(0):.6g}, weight_decay={rule.weight_decay:.6g})"
    if rule.decay == "decoupled":
        return (
            f"for p in parameters: p.data.mul_(1 - lr * {rule.weight_decay:.6g})  "
            "# before each step; torch's weight_decay is L2 here"
        )
    kind = {"adam": "Adam", "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad"}[rule.family]
    return f"torch.optim.{kind}(parameters, lr={rule.rate(0):.6g}, weight_decay={rule.weight_decay:.6g})"


def _keras_decay(rule: Rule) -> str:
    if rule.decay != "coupled":
        return f"weight_decay={rule.weight_decay or None}  # Keras decouples it: p -= lr * weight_decay * p"
    return (
        f"kernel_regularizer=keras.regularizers.L2({rule.weight_decay / 2:.6g})  "
        "# on the layers, instead of weight_decay: its gradient is 2 * l2 * w"
    )


def _optax_decay(rule: Rule) -> str:
    if rule.decay == "coupled":
        return f"optax.chain(optax.add_decayed_weights({rule.weight_decay:.6g}), optimizer)  # before: into the gradient"
    if not rule.decay:
        return "leave out the weight decay"
    return f"optax.adamw(..., weight_decay={rule.weight_decay:.6g})"


def _torch_epsilon(rule: Rule) -> str:
    if rule.family == "rmsprop":
        return "torch's RMSprop adds eps outside of the root: write the step by hand, or take timm.optim.RMSpropTF"
    return (
        "torch adds eps after the bias correction: before step t set "
        f"group['eps'] = {rule.epsilon:.3g} / (1 - {rule.beta_2:.6g} ** t) ** 0.5"
    )


def _optax_epsilon(rule: Rule) -> str:
    if rule.family == "rmsprop":
        return f"optax.rmsprop(..., eps={rule.epsilon:.3g}, eps_in_sqrt={rule.placement == 'inside'})"
    if rule.placement == "inside":
        return f"optax.adam(..., eps=0.0, eps_root={rule.epsilon:.3g})"
    return f"optax adds eps after the bias correction, the reference before: eps={rule.epsilon:.3g} / sqrt(1 - b2 ** t)"


def _keras_epsilon(rule: Rule) -> str:
    if rule.family == "rmsprop":
        return "Keras' RMSprop adds epsilon inside the root; override update_step to add it outside"
    return (
        "Keras adds epsilon before the bias correction; the nearest constant is the late one: "
        f"epsilon={rule.epsilon:.3g}, which acts as {rule.epsilon:.3g} / sqrt(1 - {rule.beta_2:.6g} ** t)"
    )


def _betas(rule: Rule) -> str:
    return f"betas=({rule.beta_1:.6g}, {rule.beta_2:.6g})"


FIXES: dict[tuple[str, str], Write] = {
    ("weight-decay-kind", "torch"): _torch_decay,
    ("weight-decay-kind", "tensorflow"): _keras_decay,
    ("weight-decay-kind", "jax"): _optax_decay,
    ("adam-eps-hat", "torch"): _torch_epsilon,
    ("adam-eps-hat", "tensorflow"): _keras_epsilon,
    ("adam-eps-hat", "jax"): _optax_epsilon,
    ("rmsprop-eps", "torch"): _torch_epsilon,
    ("rmsprop-eps", "tensorflow"): _keras_epsilon,
    ("rmsprop-eps", "jax"): _optax_epsilon,
    ("epsilon", "torch"): lambda r: f"eps={r.epsilon:.3g}",
    ("epsilon", "tensorflow"): lambda r: f"epsilon={r.epsilon:.3g}",
    ("epsilon", "jax"): lambda r: f"eps={r.epsilon:.3g}",
    ("learning-rate", "torch"): lambda r: f"lr={r.rate(0):.6g}",
    ("learning-rate", "tensorflow"): lambda r: f"learning_rate={r.rate(0):.6g}",
    ("learning-rate", "jax"): lambda r: f"learning_rate={r.rate(0):.6g}",
    ("momentum", "torch"): lambda r: f"momentum={r.momentum:.6g}",
    ("momentum", "tensorflow"): lambda r: f"momentum={r.momentum:.6g}",
    ("momentum", "jax"): lambda r: f"momentum={r.momentum:.6g}",
    ("nesterov", "torch"): lambda r: f"nesterov={r.nesterov}",
    ("nesterov", "tensorflow"): lambda r: f"nesterov={r.nesterov}",
    ("nesterov", "jax"): lambda r: f"nesterov={r.nesterov}",
    ("betas", "torch"): _betas,
    ("betas", "tensorflow"): lambda r: f"beta_1={r.beta_1:.6g}, beta_2={r.beta_2:.6g}",
    ("betas", "jax"): lambda r: f"b1={r.beta_1:.6g}, b2={r.beta_2:.6g}",
    ("amsgrad", "torch"): lambda r: f"amsgrad={bool(r.amsgrad)}",
    ("amsgrad", "tensorflow"): lambda r: f"amsgrad={bool(r.amsgrad)}",
    ("amsgrad", "jax"): lambda r: "optax.amsgrad(...)" if r.amsgrad else "optax.adam(...)",
    ("centered", "torch"): lambda r: f"centered={r.centered}",
    ("centered", "tensorflow"): lambda r: f"centered={r.centered}",
    ("centered", "jax"): lambda r: f"centered={r.centered}",
    ("accumulator", "torch"): lambda r: f"initial_accumulator_value={r.initial:.3g}",
    ("accumulator", "tensorflow"): lambda r: f"initial_accumulator_value={r.initial:.3g}",
    ("accumulator", "jax"): lambda r: f"initial_accumulator_value={r.initial:.3g}",
}
"""By cause and framework. To add one: one row."""
