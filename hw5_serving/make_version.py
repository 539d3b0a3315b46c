"""Write files for the admin routes of serve.py: other weights, and an adapter.

    python make_version.py noisy runs/served/v2.safetensors     # a little noise: other answers
    python make_version.py broken runs/served/bad.safetensors   # finite, but its logits overflow
    python make_version.py adapter runs/served/odd.safetensors  # a random LoRA adapter

With --tiny for a server that was started with --tiny. The checksum that `stage` asks for (5.11) is
written into the file.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from serving.experiment import run_script
from serving.model import Llama
from serving.model_runner import lora_widths
from serving.server.files import write_adapter, write_weights
from serving.server.loading import load_model


@torch.no_grad()
def add_noise(model: Llama, share: float, generator: torch.Generator) -> None:
    """Noise of `share` of each matrix's own spread."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise * parameter.std() * share)


@torch.no_grad()
def overflow(model: Llama) -> None:
    """Weights that pass every check of a state, and give logits that are not finite."""
    model.norm.weight.fill_(torch.finfo(model.norm.weight.dtype).max)


def random_adapter(
    model: Llama, rank: int, generator: torch.Generator
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B for every attention matrix; B as well as A is random, so that it changes answers."""
    adapter = {}
    for layer, (wide, tall) in lora_widths(model).items():
        if layer.endswith(("q_proj", "v_proj")):
            a = torch.randn(rank, wide, generator=generator) / wide**0.5
            adapter[layer] = (a, torch.randn(tall, rank, generator=generator) * 0.1)
    return adapter


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.argument("kind", type=click.Choice(["noisy", "broken", "adapter"]))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A GGUF file; by default the SmolLM2 that `make fetch` brought.")
@click.option("--tiny", is_flag=True, help="The tiny random model.")
@click.option("--noise", default=0.1, show_default=True, help="Share of a matrix's spread.")
@click.option("--rank", default=4, show_default=True, help="Of the adapter.")
@click.option("--seed", default=0, show_default=True)
def main(
    kind: str, out: Path, path: Path | None, tiny: bool, noise: float, rank: int, seed: int
) -> None:  # fmt: skip
    """Load the model, change it, write the file."""
    name, model, _ = load_model(path, tiny, 0)
    generator = torch.Generator().manual_seed(seed)
    if kind == "adapter":
        write_adapter(out, random_adapter(model, rank, generator), 1.0)
        click.echo(f"{out}: an adapter for {name}")
        return
    if kind == "noisy":
        add_noise(model, noise, generator)
    else:
        overflow(model)
    click.echo(f"{out}: weights for {name}, checksum {write_weights(out, model)}")


if __name__ == "__main__":
    run_script(main)
