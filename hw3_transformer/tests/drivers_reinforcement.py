"""Drivers of task 3.10: advantages, losses, rollouts, and whole steps of GRPO and PPO."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Rows = list[list[int]]


def _tensors(arrays: Arrays, grad: tuple[str, ...]) -> dict[str, Any]:
    import torch

    return {n: torch.tensor(a).requires_grad_(n in grad) for n, a in arrays.items()}


def _answer(made: dict[str, Any]) -> dict[str, Any]:
    """Results as arrays, their types, and which of them carry a graph."""
    return {
        **{name: t.detach().double().numpy() for name, t in made.items()},
        "recorded": [name for name, t in made.items() if t.requires_grad],
        "types": {name: str(t.dtype) for name, t in made.items()},
    }


def estimate(arrays: Arrays, gamma: float, lam: float) -> dict[str, Any]:
    """gae of rewards and values that both ask for gradients."""
    from language_model.reinforcement import gae

    given = _tensors(arrays, ("rewards", "values"))
    advantages, returns = gae(given["rewards"], given["values"], given["mask"], gamma, lam)
    return _answer({"advantages": advantages, "returns": returns})


def whitened(advantages: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """whiten."""
    import torch

    from language_model.reinforcement import whiten

    return whiten(torch.tensor(advantages), torch.tensor(mask)).numpy()


def grouped(rewards: np.ndarray, group_size: int) -> dict[str, Any]:
    """group_advantages of rewards that ask for gradients."""
    from language_model.reinforcement import group_advantages

    given = _tensors({"rewards": rewards}, ("rewards",))
    return _answer({"advantages": group_advantages(given["rewards"], group_size)})


def divergence(log_probs: np.ndarray, reference_log_probs: np.ndarray) -> dict[str, Any]:
    """kl_estimate, and the gradient of its sum."""
    from language_model.reinforcement import kl_estimate

    arrays = {"log_probs": log_probs, "reference_log_probs": reference_log_probs}
    given = _tensors(arrays, tuple(arrays))
    made = kl_estimate(given["log_probs"], given["reference_log_probs"])
    made.sum().backward()
    reference = given["reference_log_probs"].grad
    return {
        "value": made.detach().numpy(), "gradient": given["log_probs"].grad.numpy(),
        "constant": reference is None or not bool(reference.any()),
    }  # fmt: skip


def spread(arrays: Arrays, kl: float) -> dict[str, Any]:
    """token_rewards of numbers that all ask for gradients."""
    from language_model.reinforcement import token_rewards

    given = _tensors(arrays, ("scores", "log_probs", "reference_log_probs"))
    order = [given[n] for n in ("scores", "log_probs", "reference_log_probs", "mask")]
    return _answer({"rewards": token_rewards(*order, kl)})


def loss_of(name: str, arrays: Arrays, options: dict[str, float]) -> dict[str, Any]:
    """A loss of reinforcement.py, and the gradient of every float argument it reaches."""
    import torch

    from language_model import reinforcement

    floats = tuple(n for n, a in arrays.items() if a.dtype.kind == "f")
    given = _tensors(arrays, floats)
    loss = getattr(reinforcement, name)(**given, **options)
    loss.backward()
    grads = {n: given[n].grad for n in floats if given[n].grad is not None}
    return {
        "loss": loss.item(), "shape": list(loss.shape),
        "gradients": {n: g.numpy() for n, g in grads.items() if bool(torch.any(g != 0))},
    }  # fmt: skip


class Policy:
    """A float64 model, maybe with adapters and a value head, and plain SGD on what trains."""

    def __init__(
        self, sizes: dict[str, Any], weights: Arrays, adapter: Arrays | None = None, rank: int = 1,
        alpha: float = 1.0, dropout: float = 0.0, rate: float = 0.1, head: np.ndarray | None = None,
        dtype: str = "float64",
    ) -> None:  # fmt: skip
        import torch
        from drivers_model import build_model

        from language_model.lora import attach_lora, load_adapter_state
        from language_model.preference import RewardHead

        self.model = build_model(sizes, weights, dtype)
        if adapter is not None:
            attach_lora(self.model, rank, alpha, ("query", "value"), dropout)
            load_adapter_state(self.model, {n: torch.tensor(a) for n, a in adapter.items()})
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if head is not None:
            self.head = _filled(RewardHead(len(head)), head)
            self.trained |= {f"value.{n}": p for n, p in self.head.named_parameters()}
        self.optimizer = torch.optim.SGD(list(self.trained.values()), lr=rate)
        self.model.train()

    def load(self, weights: Arrays) -> None:
        """Other weights, as after an update."""
        import torch

        self.model.load_state_dict({name: torch.tensor(a) for name, a in weights.items()})

    def state(self) -> Arrays:
        """What trains, now."""
        return {name: p.detach().numpy() for name, p in self.trained.items()}

    def sample(self, seed: int, prompts: Rows, **options: Any) -> dict[str, Any]:
        """A rollout, what ran through the model for it, and what it left behind."""
        import torch

        from language_model.rollouts import roll_out

        calls: list[dict[str, Any]] = []
        run = self.model.hidden_states

        def hidden_states(ids: Any, *args: Any, **kwargs: Any) -> Any:
            training = any(m.training for m in self.model.modules())
            calls.append({"rows": ids.shape[0], "time": ids.shape[1], "training": training})
            return run(ids, *args, **kwargs)

        self.model.blocks[0].eval()  # a flag of its own, as a frozen block may have
        flags = [m.training for m in self.model.modules()]
        torch.manual_seed(1234)
        before = torch.get_rng_state()
        self.model.hidden_states = hidden_states
        try:
            made = roll_out(
                self.model, prompts, generator=torch.Generator().manual_seed(seed), **options
            )
        finally:
            del self.model.hidden_states
        kept = flags == [m.training for m in self.model.modules()]
        untouched = bool((torch.get_rng_state() == before).all())
        return {
            **_described(made), "calls": calls, "flags kept": kept, "global untouched": untouched,
            "grad": torch.is_grad_enabled(), "recorded": made.log_probs.requires_grad,
        }  # fmt: skip

    def tokens_only(self, seed: int, prompts: Rows, **options: Any) -> np.ndarray:
        """The sampled tokens of responses of one length: (rows, length)."""
        import torch

        from language_model.rollouts import roll_out

        generator = torch.Generator().manual_seed(seed)
        return np.array(roll_out(self.model, prompts, generator=generator, **options).tokens)

    def grpo(self, seed: int, prompts: Rows, table: np.ndarray, **settings: Any) -> dict[str, Any]:
        """grpo_step where a response is worth the mean of its tokens' entries in `table`."""
        import torch

        from language_model.reinforcement import GRPOSettings, grpo_step

        asked: list[list[list[int]]] = []

        def reward(prompt: Any, response: Any) -> float:
            asked.append([list(prompt), list(response)])
            return float(table[list(response)].mean())

        made = grpo_step(
            self.model, self.optimizer, prompts, reward, GRPOSettings(**settings),
            torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return {
            **_described(made.rollout), "rewards": made.rewards.numpy(), "losses": made.losses,
            "asked": asked, "state": self.state(),
        }  # fmt: skip

    def ppo(
        self, seed: int, prompts: Rows, scorer: Arrays, sizes: dict[str, Any], head: np.ndarray,
        **settings: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """ppo_step scored by a reward head over another model with weights `scorer`."""
        import torch
        from drivers_model import build_model

        from language_model.preference import RewardHead
        from language_model.reinforcement import PPOSettings, ppo_step

        judge = build_model(sizes, scorer, "float64")
        score_head = _filled(RewardHead(len(head)), head)
        made = ppo_step(
            self.model, self.head, self.optimizer, prompts,
            lambda rollout: score_head.score(judge, rollout.responses), PPOSettings(**settings),
            torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return {
            **_described(made.rollout), "rewards": made.rewards.numpy(), "losses": made.losses,
            "state": self.state(),
        }  # fmt: skip


def _filled(head: Any, numbers: np.ndarray) -> Any:
    import torch

    head = head.double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor(numbers))
    return head


def _described(rollout: Any) -> dict[str, Any]:
    return {
        "ids": rollout.responses.ids.numpy(), "mask": rollout.responses.mask.numpy(),
        "log_probs": rollout.log_probs.double().numpy(), "tokens": rollout.tokens,
        "dtype": str(rollout.log_probs.dtype),
    }  # fmt: skip


def policy(**options: Any) -> Policy:
    """A policy to sample from and to train."""
    return Policy(**options)


def sampled_once(sizes: dict[str, Any], weights: Arrays, options: dict[str, Any]) -> Rows:
    """The responses of one rollout."""
    from drivers_model import build_model

    from language_model.rollouts import roll_out

    return roll_out(build_model(sizes, weights), **options).tokens


def toy(
    sizes: dict[str, Any], weights: Arrays, prompts: np.ndarray, following: list, group_size: int,
    seed: int, rate: float,
) -> dict[str, Any]:  # fmt: skip
    """GRPO on saying what follows, prompts (steps, batch, 2): all that every step did.

    Weights and Adam's two moments before the first step and after each: (steps + 1, ...) by name;
    the responses of each step: (steps, rows, 3).
    """
    import torch
    from drivers_model import build_model

    from language_model.reinforcement import GRPOSettings, grpo_step

    model = build_model(sizes, weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    settings = GRPOSettings(group_size=group_size, max_new_tokens=3)

    def reward(prompt: Any, response: Any) -> float:
        right, last = 0, prompt[1]
        for token in response:
            last = following[last]
            right += token == last
        return right / 3

    named = dict(model.named_parameters())
    history: dict[str, Any] = {part: {n: [] for n in named} for part in ("w", "m", "v")}

    def keep() -> None:
        for name, weight in named.items():
            state = optimizer.state.get(weight, {})
            history["w"][name].append(weight.detach().numpy().copy())
            for part, key in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                moment = state.get(key, torch.zeros_like(weight))
                history[part][name].append(moment.detach().numpy().copy())

    keep()
    tokens = []
    for batch in prompts.tolist():
        made = grpo_step(model, optimizer, batch, reward, settings, generator)
        tokens.append(made.rollout.tokens)
        keep()
    stacked = {part: {n: np.stack(a) for n, a in by.items()} for part, by in history.items()}
    return {"tokens": np.array(tokens), **stacked}
