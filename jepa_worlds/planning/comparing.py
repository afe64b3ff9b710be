"""What an evaluation of planning compares: the rows, the worlds that they share, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from agents.actions import described
from agents.behaviours.core import Behaviour
from agents.behaviours.uniform import Uniform
from agents.costs.core import Costs
from agents.costs.int8 import int8
from agents.heads.policy import GoalPolicy
from agents.planners.cem import CEM
from agents.planners.core import Planner
from agents.world_models.core import WorldModel
from jepa_worlds.models.devices import chosen_device
from jepa_worlds.planning.actors import Actor, Behaving, Decided, Following, Planning, Simulating, Still, controller
from jepa_worlds.planning.arenas import Arena
from jepa_worlds.planning.fitting import Fitted
from jepa_worlds.planning.heads import new_head
from jepa_worlds.planning.protocol_worlds import other_settings
from jepa_worlds.planning.protocols import Protocol
from jepa_worlds.planning.rows import Row
from jepa_worlds.policies.behaviours import identified, make_behaviour, unpickles
from jepa_worlds.shared.build import TRUSTED, build
from jepa_worlds.shared.files import Plain
from jepa_worlds.shared.runs import run_name

CEILING, RANDOM, STILL, BEHAVIOUR = "true simulator", "random actions", "no-op", "behaviour of the data"
Make = Callable[[int, Decided], Actor]


class Comparison:
    """Rows under one protocol, in one order: planners, baselines, the ceiling, floors.

    Args:
        settings: of the command.
        protocol: of all rows.
        out: where results are kept.

    Attributes:
        distractor: of the worlds, its configuration.
        identity: id and hash of the protocol, with that distractor.
        datasets: by row, what its model was trained on.
        notes: what a table should say.
        fitted: by run, its model and what is fitted on it.

    Raises:
        FileNotFoundError: there is no such run or dataset.
        ValueError: bad input, or runs whose numbers would belong to different protocols.
    """

    def __init__(self, settings: Plain, protocol: Protocol, out: Path) -> None:
        self.settings, self.protocol, self.out = settings, protocol, out
        self.notes: list[str] = []
        self.datasets: dict[str, Plain] = {}
        trusted = (*TRUSTED, *settings["trust"])
        self.planner: Planner = build(settings["planner"], trusted)
        self.costs: Costs = Costs(build(settings["cost"]["terms"], trusted), settings["cost"]["weights"])
        device = chosen_device(settings["device"])
        self.fitted = {
            run_name(run): Fitted(str(run), out / "heads" / run_name(run), settings, device)
            for run in (settings["run"], *settings["runs"])
        }
        first = next(iter(self.fitted.values()))
        self.distractor = self._distractor(first)
        self.identity = protocol.settled(self.distractor)
        self._imagining = {name: self._quick(fitted.model) for name, fitted in self.fitted.items()}
        self._try_out()

    def rows(self) -> list[Row]:
        """All of them."""
        return [*self._planners(), *self._baselines(), *self._ceiling(), *self._floors()]

    def _quick(self, model: WorldModel) -> WorldModel:
        return int8(model) if self.settings["precision"] == "int8" else model

    def _distractor(self, first: Fitted) -> Plain:
        """What is seen beside the worlds themselves.

        Raises:
            ValueError: runs that were trained under other distractors.
        """
        if self.protocol.distractor == "none":
            return {}
        for name, fitted in self.fitted.items():
            if (fitted.dataset.manifest["distractor"] or {}) != (first.dataset.manifest["distractor"] or {}):
                raise ValueError(
                    f"{name} was trained under another distractor than {run_name(first.run)}: their numbers belong to "
                    f"different protocols and no table holds both; plan in each by itself"
                )
        return first.dataset.manifest["distractor"] or {}

    def _try_out(self) -> None:
        """Begin an episode, so that what is wrong comes out before anything is fitted or written.

        Raises:
            ValueError: there is such a thing.
        """
        arena = Arena(self.protocol, self.distractor, self.protocol.seeds[0], [0], self.settings["trust"])
        now, goal = arena.begin()
        self.protocol.distance(now.factors, goal.factors)
        there = described(arena.space)
        size = sum(there["sizes"]) if "sizes" in there else int(arena.space.sample().size)
        for name, fitted in self.fitted.items():
            spec = fitted.card["spec"]
            if (spec["action_dim"], spec["action_sizes"]) != (size, there.get("sizes", [])):
                raise ValueError(
                    f"the actions of {self.protocol.env['id']} are {arena.space}, the model in {name} takes "
                    f"{spec['action_dim']} numbers: choose the protocol of the worlds that it was trained on"
                )
            if found := other_settings(name, fitted.dataset.manifest["env"], self.protocol.env):
                self.notes.append(f"The data of {name} are of other settings than the protocol: {', '.join(found)}.")
            self._note_reach(name, fitted)
            fitted.require(self.costs.needs, goal.factors)
            for baseline in self.settings["baselines"]:
                head = new_head(fitted.head_config(baseline), 0, self.settings["trust"])
                if not isinstance(head, GoalPolicy):
                    kind = type(head).__name__
                    raise ValueError(f"baselines are policies for goals, such as gcbc; {baseline!r} is a {kind}")
            self._planning(fitted, 0, lambda plan, judged: None, trial=True).begin(now, goal, arena.space, arena.key)
        if arena.world is None:
            self.notes.append(f"No ceiling: {self.protocol.env['id']} cannot be simulated from a state that is given.")
        self._simulated = arena.world
        arena.close()

    def _note_reach(self, name: str, fitted: Fitted) -> None:
        """Note if a model that was trained here is asked for longer rollouts than it was trained on."""
        ahead = self.protocol.horizon * self.protocol.action_repeat
        if fitted.card["steps"] and ahead > fitted.rolled_out:
            trained = f"{name} was trained on rollouts of {fitted.rolled_out}"
            self.notes.append(f"Plans reach {ahead} steps ahead; {trained}.")

    def _planners(self) -> list[Row]:
        return [
            self._row(
                name,
                "planner",
                partial(self._planning, fitted),
                {
                    **fitted.identity,
                    **{x: self.settings[x] for x in ("planner", "cost", "precision")},
                    **self._fits(fitted),
                },
                fitted,
            )
            for name, fitted in self.fitted.items()
        ]

    def _planning(self, fitted: Fitted, seed: int, decided: Decided, trial: bool = False) -> Actor:
        needs = set() if trial else self.costs.needs
        return Planning(
            fitted.model,
            self._imagining[run_name(fitted.run)],
            self.settings["precision"] == "bf16",
            self.costs,
            fitted.aims(needs, seed),
            controller(self.planner, self.protocol, seed, decided),
        )

    def _fits(self, fitted: Fitted) -> Plain:
        """What is fitted for the cost."""
        heads = [need.partition(".")[2] for need in self.costs.needs if need.startswith("heads.")]
        found: Plain = {"heads": {name: fitted.head_config(name) for name in sorted(heads)}} if heads else {}
        if heads:
            found["fit"] = self._fit
        if any(need.startswith("readouts.") for need in self.costs.needs):
            found["readout"] = self.settings["readout"]
        return found

    @property
    def _fit(self) -> Plain:
        """How heads are fitted, once for each seed of the protocol."""
        return {**self.settings["fit"], "seeds": list(self.protocol.seeds)}

    def _baselines(self) -> list[Row]:
        return [
            self._row(
                f"{baseline} on {name}",
                "baseline",
                partial(self._following, fitted, baseline),
                {**fitted.identity, "head": fitted.head_config(baseline), "fit": self._fit},
                fitted,
            )
            for baseline in self.settings["baselines"]
            for name, fitted in self.fitted.items()
        ]

    def _following(self, fitted: Fitted, baseline: str, seed: int, decided: Decided) -> Actor:
        policy = fitted.head(baseline, seed)
        assert isinstance(policy, GoalPolicy)
        return Following(fitted.model, policy)

    def _ceiling(self) -> list[Row]:
        if not self.settings["ceiling"] or self._simulated is None:
            return []
        world, planner, config = self._simulated, self.planner, self.settings["planner"]
        if self.planner.gradients:
            planner, config = CEM(), {"_target_": "agents.planners.cem.CEM"}
            self.notes.append(f"{CEILING}: by CEM, for it has no gradients.")
        return [
            self._row(
                CEILING,
                "ceiling",
                lambda *drawn: Simulating(world, self.protocol, controller(planner, self.protocol, *drawn)),
                {"planner": config},
            )
        ]

    def _floors(self) -> list[Row]:
        rows = [
            self._row(RANDOM, "floor", lambda seed, decided: Behaving(Uniform()), {}),
            self._row(STILL, "floor", lambda seed, decided: Still(), {}),
        ]
        config = next(iter(self.fitted.values())).dataset.manifest["behaviour"]
        behaviour = _acted(config, self.settings["trust"])
        if isinstance(behaviour, str):
            self.notes.append(f"No row for the {BEHAVIOUR}: {behaviour}")
            return rows
        settings = {"behaviour": config}
        return [*rows, self._row(BEHAVIOUR, "floor", lambda seed, decided: Behaving(behaviour), settings)]

    def _row(self, name: str, kind: str, make: Make, settings: Plain, fitted: Fitted | None = None) -> Row:
        if fitted is not None:
            dataset = fitted.dataset
            self.datasets[name] = {"path": str(dataset.path), "hash": dataset.content_hash}
        shown = self.settings["shown"] if kind == "planner" else 0
        return Row(name, kind, {"protocol": self.identity, **settings}, make, shown)


def _acted(config: Plain, trust: Sequence[str]) -> Behaviour | str:
    """The behaviour that a dataset was collected with, or why there is none."""
    if "imported" in config:
        return "imported episodes do not say who acted in them"
    if unpickles(config) and "stable_baselines3" not in trust:
        return "a policy acted whose file can run anything when it is loaded; trust=[stable_baselines3] if it is yours"
    given = _without_hash(config)
    try:
        behaviour = make_behaviour(given, trust)
        same = identified(given) == config
    except FileNotFoundError as error:
        return str(error)
    return behaviour if same else "the policy that acted is gone, or another one is in its place"


def _without_hash(config: object) -> Plain:
    """The configuration of a behaviour as `collect` was given it, without what a dataset says of its files."""
    if isinstance(config, dict):
        return {name: _without_hash(value) for name, value in config.items() if name != "policy_hash"}
    return config  # type: ignore[return-value]
