"""Make a corpus for training from text files: deduplicated, tokenised, packed, in shards.

    python prepare_corpus.py data/english              # the standard library's help texts
    python prepare_corpus.py data/mine a.txt texts/    # your own: files, and folders of *.txt
    python prepare_corpus.py data/mine a.txt --bytes   # without task 3.1's tokenizer

OUT/train and OUT/held_out are corpora of packed rows for `language_model.stream.Corpus`, with
OUT/tokenizer.json beside them. Duplicates are removed first, so that no held-out document has a
near-copy in the training set.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from language_model import stream_tokenizer
from language_model.dedup import deduplicate
from language_model.experiment import run_script
from language_model.packing import Packer
from language_model.stream import Permutation
from language_model.stream_format import CorpusError, CorpusWriter
from language_model.stream_tokenizer import CorpusTokenizer


class Documents(Sequence[str]):
    """Texts that stay on disk: a document is a stretch of a file, read when it is asked for."""

    def __init__(self, files: Sequence[Path], split: str) -> None:
        self.files = list(files)
        self.spans = array("q")  # file, start, stop of each document
        self.on_read: Callable[[], object] = lambda: None
        for number, path in enumerate(self.files):
            for start, stop in _spans(path, split):
                self.spans.extend((number, start, stop))

    def __len__(self) -> int:
        return len(self.spans) // 3

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if index < 0 or index >= len(self):
            raise IndexError(index)
        number, start, stop = self.spans[3 * index : 3 * index + 3]
        with open(self.files[number], "rb") as file:
            file.seek(start)
            text = file.read(stop - start).decode("utf-8", "replace")
        self.on_read()
        return text


def _spans(path: Path, split: str) -> Iterator[tuple[int, int]]:
    """Where documents start and stop in a file, in bytes; blank ones are left out."""
    start = place = 0
    written = False  # something other than blanks since `start`
    with open(path, "rb") as file:
        for line in file:
            blank = not line.strip()
            ends = split == "lines" or (split == "paragraphs" and blank)
            written = written or not blank
            place += len(line)
            if ends:
                if written:
                    yield start, place
                start, written = place, False
    if written:
        yield start, place


def _standard_texts(folder: Path) -> list[Path]:
    """The texts of Python's help(), one file each: something to read without a download."""
    from pydoc_data import topics

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in topics.topics.items():
        safe = "".join(c if c.isalnum() else "_" for c in name)
        (folder / f"{safe}.txt").write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.txt"))


def _files(sources: Sequence[Path], out: Path) -> list[Path]:
    """All files to read, in a fixed order."""
    if not sources:
        return _standard_texts(out / "texts")
    found: list[Path] = []
    for source in sources:
        found += sorted(source.rglob("*.txt")) if source.is_dir() else [source]
    if not found:
        raise click.UsageError("there is no file named *.txt in these folders")
    return found


def _split(kept: np.ndarray, held_out: float, seed: int) -> dict[str, np.ndarray]:
    """The kept documents, in random order, as train and held_out."""
    order = kept[Permutation(len(kept), seed)(np.arange(len(kept)))]
    count = min(max(1, round(held_out * len(kept))), len(kept) - 1) if held_out else 0
    return {"held_out": order[:count], "train": order[count:]}


def _write(
    folder: Path, texts: Iterable[str], tokenizer: CorpusTokenizer, row_length: int, window: int,
    shard_mb: int,
) -> dict[str, float]:  # fmt: skip
    """One corpus of packed rows; what it holds."""
    packer = Packer(row_length, window)
    with CorpusWriter(folder, tokenizer.vocab_size, row_length, shard_mb << 20) as writer:
        for text in texts:
            for row in packer.add(np.array(tokenizer.encode_document(text), np.int64)):
                writer.add(row)
        for row in packer.flush():
            writer.add(row)
    made = writer.manifest
    places = max(made.samples * row_length, 1)
    return {"rows": made.samples, "tokens": made.tokens, "efficiency": made.tokens / places,
            "shards": len(made.shards)}  # fmt: skip


@click.command(help=(__doc__ or "").splitlines()[0])
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--split", type=click.Choice(["files", "paragraphs", "lines"]), default="files",
              show_default=True, help="What a document is.")  # fmt: skip
@click.option("--vocab-size", default=1024, show_default=True, help="Of a BPE learned here.")
@click.option("--gguf", type=click.Path(exists=True, path_type=Path), help="Its tokenizer instead.")
@click.option("--bytes", "as_bytes", is_flag=True, help="Bytes instead of your tokenizer.")
@click.option("--row-length", default=256, show_default=True, help="Tokens in a row.")
@click.option("--window", default=1024, show_default=True, help="Documents the packer looks at.")
@click.option("--threshold", default=0.8, show_default=True, help="Similarity of duplicates.")
@click.option("--keep-duplicates", is_flag=True, help="Do not look for duplicates.")
@click.option("--held-out", default=0.05, show_default=True, help="Share of documents.")
@click.option("--shard-mb", default=64, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    out: Path, sources: tuple[Path, ...], split: str, vocab_size: int, gguf: Path | None,
    as_bytes: bool, row_length: int, window: int, threshold: float, keep_duplicates: bool,
    held_out: float, shard_mb: int, seed: int,
) -> None:  # fmt: skip
    """Read, deduplicate, tokenise, pack, write; say what came of it."""
    started = time.perf_counter()
    if (out / "train" / "manifest.json").exists():
        raise click.UsageError(f"{out / 'train'} holds a corpus already; choose another folder")
    documents = Documents(_files(sources, out), split)
    if len(documents) < 2:
        raise click.UsageError(f"{len(documents)} documents found; see --split")
    with tqdm(total=len(documents), desc="deduplicate", unit="doc", disable=keep_duplicates) as bar:
        # Every document is read once for its signature, candidates again to compare them.
        documents.on_read = lambda: bar.update(bar.n < bar.total)
        found = None if keep_duplicates else deduplicate(documents, threshold, seed=seed)
        documents.on_read = lambda: None
    kept = np.arange(len(documents)) if found is None else found.keep
    parts = _split(kept, held_out, seed)

    def texts(name: str) -> Iterator[str]:
        for index in tqdm(parts[name], desc=name, unit="doc"):
            yield documents[int(index)]

    if as_bytes:
        tokenizer = stream_tokenizer.of_bytes()
    elif gguf:
        tokenizer = stream_tokenizer.of_gguf(gguf)
    else:  # from what is trained on only
        learned_from = (documents[int(i)] for i in parts["train"])
        tokenizer = stream_tokenizer.trained(learned_from, vocab_size)
    summary: dict[str, object] = {
        "documents": len(documents), "kept": len(kept), "vocab_size": tokenizer.vocab_size,
        "candidates": 0 if found is None else len(found.candidates),
    }  # fmt: skip
    try:
        for name in parts:
            summary[name] = _write(
                out / name, texts(name), tokenizer, row_length, window, shard_mb
            )  # fmt: skip
    except CorpusError as error:
        raise click.ClickException(str(error)) from None
    stream_tokenizer.save_tokenizer(out, tokenizer)
    summary["seconds"] = round(time.perf_counter() - started, 2)
    (out / "prepare.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(summary, indent=1))


if __name__ == "__main__":
    run_script(main)
