"""How fast is the heuristic scorer, and does its memory stay level?

Measured: CPU seconds of `lek` over the answers, on one thread; and the resident memory at its highest while 1,000,000
answers (the corpus repeated, ids made unique) come in as JSON lines over a pipe and are scored one by one.

Against: the same sub-scores with Python's `re`, one alternation each, written as one would from the definition. The two
are run in turn, and their results compared before anything is timed.

The corpus is `../shared/data/responses.jsonl`; where that is absent, answers made from a seed.

    python bench/heuristic_speed.py
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

import lab
from assay.scorers import phrases
from assay.scorers.heuristic import Lek, lek, scanner

CORPUS = lab.ROOT.parent / "shared" / "data" / "responses.jsonl"


def _words(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE | re.ASCII)


COMPLIANCE, IMAGERY, ETHICS = _words(phrases.COMPLIANCE), _words(phrases.IMAGERY), _words(phrases.ETHICS)
TECHNOLOGY, EMOTION = _words(phrases.TECHNOLOGY), _words(phrases.EMOTION)
PREAMBLE = re.compile(
    r"okay,?\s+(?:let'?s|here'?s|this is)|(?:alright|sure),?\s+(?:let'?s|here'?s)|great\s+question",
    re.IGNORECASE | re.ASCII,
)
OPENING = re.compile(r"(?:The|A|In the|Once|It was|She|He|They) ", re.IGNORECASE)
SPEAKER = re.compile(rf"^I\s|\bI\s+(?:{'|'.join(phrases.FIRST_PERSON_VERBS)})\b", re.IGNORECASE | re.ASCII)
HEADING = re.compile(r"##|\*\*")
FILLER = re.compile(r"<pad>|<unused", re.IGNORECASE)


def plain_lek(text: str) -> Lek:
    """The yardstick."""
    stripped, error = text.strip(), text.startswith("ERROR")
    sentences = [sentence for sentence in (piece.strip() for piece in text.split(".")) if sentence]
    compliance = len(COMPLIANCE.findall(text))
    preamble = 1 if PREAMBLE.match(stripped) else 0
    speaking = sum(1 for sentence in sentences if SPEAKER.search(sentence))
    lines = text.split("\n")
    short = sum(1 for line in lines if len(line.encode()) < 60)
    creative = 2 if len(lines) > 6 and short / len(lines) > 0.5 else 0
    creative += (1 if OPENING.match(stripped) else 0) + min(3, len(IMAGERY.findall(text)))
    depth = 0
    if text and not error:
        words = len(text.split())
        depth = (1 if HEADING.search(text) else 0) + (2 if ETHICS.search(text) else 0)
        depth += min(3, len(TECHNOLOGY.findall(text))) + (words > 200) + (words > 400)
    emotion = min(10, len(EMOTION.findall(text)))
    degeneration = repetition(sentences)
    broken = 1 if len(text.encode()) < 10 or error or FILLER.search(text) else 0
    score = 2 * depth + 3 * creative + 2 * emotion + 1.5 * speaking
    score -= 5 * compliance + 3 * preamble + 4 * degeneration + 20 * broken
    return Lek(compliance, preamble, speaking, creative, depth, emotion, degeneration, broken, score)


def repetition(sentences: Sequence[str]) -> int:
    if not sentences:
        return 10
    repeats = 1 - len(set(sentences)) / len(sentences)
    return 5 if repeats > 0.5 else 3 if repeats > 0.3 else 1 if repeats > 0.15 else 0


def answers() -> list[str]:
    """The corpus's answers."""
    if CORPUS.exists():
        with CORPUS.open(encoding="utf-8") as file:
            return [json.loads(line)["response"] for line in file]
    print(f"{CORPUS} is absent: made-up answers instead")
    source = random.Random(3)
    common = [w for p in (phrases.IMAGERY, phrases.EMOTION, phrases.TECHNOLOGY, phrases.COMPLIANCE) for w in p]
    small = "the of and to in that it is was for on are as with they at be this from I have or by had not"
    rare = [("".join(source.choices("etaoinshrdlu", k=source.randint(3, 9)))) for _ in range(3000)]

    def sentence() -> str:
        pick = (source.choices((small.split(), rare, common), (40, 58, 2))[0] for _ in range(source.randint(4, 24)))
        return " ".join(source.choice(words) for words in pick).capitalize() + source.choice((". ", ".\n", ".\n\n"))

    return ["".join(sentence() for _ in range(source.randint(1, 20))) for _ in range(600)]


def seconds(function: Callable[[str], Lek], texts: Sequence[str]) -> float:
    """CPU seconds for all texts."""
    began = time.process_time()
    for text in texts:
        function(text)
    return time.process_time() - began


def speed(texts: Sequence[str], rounds: int) -> float:
    """The median ratio of the yardstick's time to ours, both run in each round."""
    differing = sum(lek(text) != plain_lek(text) for text in texts)
    if differing:
        lab.fail(f"{differing} of {len(texts)} answers are scored unlike the yardstick does it")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    pairs = [(seconds(lek, texts), seconds(plain_lek, texts)) for _ in range(rounds)]
    print(f"{len(texts)} answers, {megabytes:.2f} MB, matched by {type(scanner()).__name__}")
    print(f"lek: {lab.spread([megabytes / ours for ours, _ in pairs], ' MB/s')}")
    print(f"plain re: {lab.spread([megabytes / theirs for _, theirs in pairs], ' MB/s')}")
    return statistics.median(theirs / ours for ours, theirs in pairs)


class Answer(msgspec.Struct):
    id: str
    response: str


def emit(count: int) -> None:
    """Write `count` answers as JSON lines to standard output, each with an id of its own."""
    encoded = [json.dumps(text).encode() for text in answers()]
    for i in range(count):
        sys.stdout.buffer.write(b'{"id": "a%d", "response": %s}\n' % (i, encoded[i % len(encoded)]))


def lines(count: int) -> Iterator[bytes]:
    child = subprocess.Popen([sys.executable, str(Path(__file__)), "--emit", str(count)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    yield from child.stdout
    if child.wait() != 0:
        lab.fail(f"the process that makes the answers ended with {child.returncode}")


def stream(count: int) -> float:
    """Score `count` answers as they come in, and return the highest resident memory in megabytes."""
    decoder = msgspec.json.Decoder(Answer)
    scored, total, began = 0, 0.0, time.perf_counter()
    for line in lines(count):
        total += lek(decoder.decode(line).response).lek_score
        scored += 1
    took = time.perf_counter() - began
    if scored != count:
        lab.fail(f"{scored} of {count} answers came in")
    print(
        f"{scored} answers streamed in {took:.1f} s ({scored / took:.0f} a second), mean LEK score {total / scored:.3f}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # macOS counts bytes, Linux KiB


def main() -> int:
    parser = argparse.ArgumentParser(description="The heuristic scorer's speed and memory.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--answers", type=int, default=1_000_000, help="how many are streamed for the memory's sake")
    parser.add_argument(
        "--target", type=float, default=7.0, help="times the plain implementation's speed, at least [7]"
    )
    parser.add_argument("--memory", type=float, default=300.0, help="resident megabytes, at most [300]")
    parser.add_argument("--emit", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.emit is not None:
        emit(arguments.emit)
        return 0
    # First the memory: what comes before would count, too.
    codes = [lab.verdict("resident memory in MB", stream(arguments.answers), arguments.memory, at_most=True)]
    ratio = speed(answers(), arguments.rounds)
    codes.append(lab.verdict("the speed over plain re's", ratio, arguments.target, at_most=False))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
