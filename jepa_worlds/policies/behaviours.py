"""Behaviours from configuration; one that follows a saved policy finds in its folder all that it needs.

behaviour=sb3 behaviour.path=runs/reacher/evaluate/Reacher-v0-PPO/reacher/seed-0/best
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.behaviours.core import Behaviour
from agents.behaviours.sb3_policy import SB3Policy
from jepa_worlds.models.checkpoint import WEIGHTS
from jepa_worlds.policies.saved import NORMALISER, POLICY, find_policy, make_observer, read_policy_card
from jepa_worlds.shared.build import TRUSTED, build
from jepa_worlds.shared.files import Plain, digest

SB3_POLICY = f"{SB3Policy.__module__}.{SB3Policy.__qualname__}"


def make_behaviour(config: Plain, trust: Sequence[str] = ()) -> Behaviour:
    """The behaviour of a configuration, in which the path of an `SB3Policy` may be the folder of a policy.

    Args:
        config: of the behaviour.
        trust: packages beside `agents` and `envs` whose classes may be built, of a saved policy's world model too.

    Raises:
        FileNotFoundError: there is no such policy, or no world model where it was.
        ValueError: what is configured is no behaviour, or contradicts the folder.
    """
    opened = _with_policies(config, lambda policy: _opened(policy, tuple(trust)))
    behaviour = build(opened, (*TRUSTED, *trust))
    if not isinstance(behaviour, Behaviour):
        raise ValueError(f"behaviour must be an agents.behaviours.core.Behaviour, got {behaviour!r}")
    return behaviour


def identified(config: Plain) -> Plain:
    """The configuration of a behaviour with a ``policy_hash`` of the files that each `SB3Policy` in it acts by."""
    return dict(_with_policies(config, lambda policy: {**policy, "policy_hash": _hash(policy)}))


def unpickles(config: Plain) -> bool:
    """Whether a configuration names an `SB3Policy` anywhere, whose files can run anything when they are loaded."""
    return SB3Policy.__name__ in str(config)


def _with_policies(config: object, change: Callable[[Plain], Plain]) -> Plain:
    """A configuration in which those of `SB3Policy` are changed, wherever they are."""
    if isinstance(config, dict):
        config = {name: _with_policies(value, change) for name, value in config.items()}
        return change(config) if config.get("_target_") == SB3_POLICY else config
    return config  # type: ignore[return-value]


def _opened(policy: Plain, trust: tuple[str, ...]) -> Plain:
    """The configuration of a policy with what its folder says in place of the folder."""
    folder = find_policy(Path(str(policy["path"])))
    if not folder.is_dir():
        return policy
    card = read_policy_card(folder)
    told = {"algorithm": card["algorithm"], "observe": "frames", "normaliser": None}
    contradicted = {name: policy[name] for name, x in told.items() if policy.get(name) not in (None, x)}
    if contradicted:
        raise ValueError(f"what is in {str(folder)!r} tells what it is and sees: leave out {contradicted}")
    try:
        observer = make_observer(card["sees"], trust=trust)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. The policy in {str(folder)!r} sees through it: run this where the policy was trained"
        ) from error
    normaliser = folder / NORMALISER
    return {
        **policy,
        "path": str(folder / POLICY),
        "algorithm": card["algorithm"],
        "observe": observer,
        "normaliser": str(normaliser) if normaliser.is_file() else None,
    }


def _hash(policy: Plain) -> str:
    """SHA-256 of the checksums of the files that a policy acts by, its world model among them."""
    path = find_policy(Path(str(policy["path"])))
    if path.is_dir():
        files = [path / POLICY, path / NORMALISER]
        files += [Path(run) / WEIGHTS for name, run in read_policy_card(path)["sees"].items() if name == "latents"]
    else:
        files = [path, *([Path(policy["normaliser"])] if policy.get("normaliser") else [])]
    digests = [f"{file.name} {digest(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
