"""Is the memory of `assay score` level, however long the file?

1,000,000 answers, each with an id of its own, are written to a file and scored by the command as a user runs it:
`assay score FILE --suite heuristic`, once without an output file and once with `-o`; every score is journaled. Then the
same command runs once more in the first workspace, so that it reads a journal of a million records. The highest resident
memory of the process must be at most 300 MB in each; a run over a tenth of the file shows how much of it grows.

The corpus is `../shared/data/responses.jsonl`, repeated; where that is absent, answers made from a seed. It takes a quarter
of an hour, and 5 GB in the temporary folder (TMPDIR).

    python bench/million_answers.py
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

import lab
from score_command import Ran, run

CORPUS = lab.ROOT.parent / "shared" / "data" / "responses.jsonl"


def corpus(folder: Path) -> list[str]:
    """Records without their ids, as the inner part of a JSON object."""
    source = CORPUS
    if not source.exists():
        from score_command import write_answers

        print(f"{CORPUS} is absent: made-up answers instead")
        source = write_answers(folder / "made.jsonl", 600)
    with source.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [json.dumps({k: v for k, v in record.items() if k != "id"}, ensure_ascii=False)[1:] for record in records]


def write(path: Path, parts: list[str], count: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f'{{"id": "a{number}", {part}\n' for number, part in enumerate(islice(cycle(parts), count)))
    return path


def measured(what: str, folder: Path, answers: Path, count: int, *more: str) -> Ran:
    ran = run([lab.assay(), "score", str(answers), "--suite", "heuristic", "--json", *more], folder)
    if ran.code != 0:
        lab.fail(f"assay score ended with {ran.code}: {ran.err[-2000:]}")
    scored = sum(row["scored"] for row in json.loads(ran.out) if row["metric"] == "lek_score")
    if scored != count:
        lab.fail(f"{scored} of {count} answers were scored")
    speed = answers.stat().st_size / 1e6 / ran.seconds
    print(
        f"{what}: {count} answers, {ran.seconds:.1f} s, {speed:.1f} MB/s, {count / ran.seconds:.0f} a second, "
        f"at most {ran.peak:.0f} MB resident",
        flush=True,
    )
    return ran


def main() -> int:
    parser = argparse.ArgumentParser(description="The memory of `assay score` over a long file.")
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--memory", type=float, default=300.0, help="resident megabytes, at most [300]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = corpus(folder)
        tenth = arguments.answers // 10
        part = write(folder / "tenth.jsonl", parts, tenth)
        answers = write(folder / "answers.jsonl", parts, arguments.answers)
        measured("a tenth", folder, part, tenth, "--workspace", "w0")
        plain = measured("no output", folder, answers, arguments.answers, "--workspace", "w1")
        output = measured("with -o", folder, answers, arguments.answers, "--workspace", "w2", "-o", "scores.jsonl")
        again = measured("once more", folder, answers, arguments.answers, "--workspace", "w1")
        peak = max(plain.peak, output.peak, again.peak)
        return lab.verdict("resident memory in MB", peak, arguments.memory, at_most=True)


if __name__ == "__main__":
    sys.exit(main())
