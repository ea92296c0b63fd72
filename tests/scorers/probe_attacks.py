"""Answers that must not pass, for any probe: they hold the right answer, or much else, and don't give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from assay.suites.suite import ScorerSpec
from assay.types import Sample

# A line each, `\\n` being a line's end: the right answer is denied, doubted, taken back, somebody else's, or one of two.
DENIALS = tuple(
    line.replace("\\n", "\n")
    for line in Path(__file__).with_name("probe_denials.txt").read_text(encoding="utf-8").splitlines()
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot answer this question.",
    "As an AI language model, I am not able to solve this.",
    "I don't know.",
    "I have no idea.",
    "No, I can't help with that.",
    "No. I'm not able to answer that.",
    "Yes, but I can't answer that.",
    "No comment.",
    "It is impossible to tell from what is given.",
    "Great question! There are many ways to look at this.",
    "Let me know if you need anything else!",
)
NOTHING = (
    "",
    " ",
    "\n\n\n",
    "...",
    "?",
    "**",
    "\\boxed{}",
    "Answer:",
    "The answer is",
    "```\n```",
    "---",
    "$$",
    "<answer></answer>",
)
LISTS = (
    " ".join(map(str, range(300))),
    ", ".join(map(str, range(300))),
    "\n".join(map(str, range(300))),
    "- " + "\n- ".join(map(str, range(300))),
    "\n".join(f"{n}." for n in range(300)),
    "; ".join(map(str, range(300))),
    "The answer is one of " + ", ".join(map(str, range(300))) + ".",
    "Answer: " + " ".join(map(str, range(300))),
    "".join(map(str, range(300))),
    str(list(range(300))),
)

# The right answer and wrong ones, in words of the prompt's own, where they are no numbers.
CANDIDATES: Mapping[str, Sequence[str]] = {
    "deduction-1": ("yes", "no"),
    "deduction-2": ("Ravi", "Lena", "Otto", "Mika"),
    "deduction-3": ("yes", "no"),
    "analogy-1": ("baton", "orchestra", "violin", "concert"),
    "causal-1": ("umbrellas", "shoes", "rain", "weekends"),
    "spatial-1": ("north", "east", "south", "west"),
    "pattern-1": ("M10", "M9", "L10", "N11"),
    "code-2": ("F3-P4-M4", "M4-P4-F3", "P4-F3-M4", "F3-M4-P4"),
    "code-3": ("[4, 9, 2, 4]", "[4, 9, 4]", "[4, 9, 7, 4]", "[4, 9, 2, 7, 4]"),
}


def candidates(sample: Sample, spec: ScorerSpec) -> tuple[str, ...]:
    """The right answer first, then wrong ones of its kind, as they would be written."""
    target = str(sample.reference["target"])
    if spec.parameters.get("kind") == "choice":
        return (target, *(str(c) for c in spec.parameters["choices"] if c != target))
    if sample.id in CANDIDATES:
        return (target, *(c for c in CANDIDATES[sample.id] if c != target))
    value = Fraction(target)
    unit = str(spec.parameters.get("unit", ""))
    near = (value + 1, value * 2, max(value - 2, value / 2))
    if value.denominator > 1 and unit != "dollars":
        near = (value + Fraction(1, value.denominator), value * Fraction(2, 3), value / 2)
    shown = tuple(f"{float(v):g}" if (v * 100).denominator == 1 else str(v) for v in (value, *near))
    names = unit.split()
    noun = "" if names[:1] == ["part"] else names[1] if len(names) > 1 else unit
    return tuple(f"{text} {noun}".strip() for text in shown)


CORRECTED = (
    "The answer is {right}. Wait, no, it is {wrong}.",
    "{right}. Wait, that's wrong. It's {wrong}.",
    "{right}\n\nActually, it's {wrong}.",
    "{right}? No, {wrong}.",
    "{right} — no wait, {wrong}.",
    "**{right}**\n\nCorrection: **{wrong}**",
    "Answer: {right}\n\nAnswer: {wrong}",
    "The answer is {right}. Hmm, let me recheck. The answer is {wrong}.",
    "First I get {right}. Then I see that I made a mistake, so the answer is {wrong}.",
    "\\boxed{{{right}}}\n\nI made an error. \\boxed{{{wrong}}}",
    "It is {right}. Sorry, I mean {wrong}.",
    "It is {right}, or rather {wrong}.",
    "The answer is {right}... scratch that, {wrong}.",
    "The answer is {right}. That is not correct. The correct answer is {wrong}.",
    "The answer is {right}. But that isn't right.",
    "The answer is {right}. Wait, that's not right.",
    "{right}\n{wrong}",
    "{right}. {wrong}.",
    "The answer is {right}. But it is {wrong}.",
    "~~{right}~~ {wrong}",
    "It is {right}. On second thought, {wrong}.",
    "I said {right}. My mistake: it should be {wrong}.",
    "At first sight it's {right}. However, the answer is {wrong}.",
    "The answer is {right}. Oops, {wrong}!",
    "My answer is {right}. I was wrong; the final answer is {wrong}.",
    "<answer>{right}</answer> Hold on. <answer>{wrong}</answer>",
    "It's {right}. No, it's {wrong}.",
    "The answer is {right}. Let me reconsider. So the answer must be {wrong}.",
    "The answer is {right}. Upon reflection, {wrong}.",
    "{right}. After checking: {wrong}.",
    "The answer is {right}. Edit: {wrong}.",
    "The answer is {right}. That's false.",
    "We get {right}, but that is wrong. We need {wrong}.",
    "First answer: {right}. Final answer: {wrong}.",
    "Attempt 1: {right}\nAttempt 2: {wrong}",
    "It seems like {right}, but in truth {wrong}.",
    "{right} → {wrong}",
    "{right} ❌ {wrong} ✅",
)
MENTIONED = (
    "The answer is {wrong}, not {right}.",
    "Not {right} but {wrong}.",
    "The answer isn't {right}, it's {wrong}.",
    "The answer is not {right}.",
    "It is not {right}.",
    "Many would say {right}, but the answer is {wrong}.",
    "Some people say {right}. The answer is {wrong}.",
    "{wrong}. You might think it is {right}, but it isn't.",
    "{wrong}, although {right} is a common answer.",
    "{wrong} (some would say {right}).",
    "{right} would be wrong; the answer is {wrong}.",
    "{right} is wrong. It is {wrong}.",
    "{right} looks tempting, but it is {wrong}.",
    "I considered {right}, but I choose {wrong}.",
    "I first thought it was {right}, but it is {wrong}.",
    "The answer is {wrong} rather than {right}.",
    "Answer: {wrong} (I considered {right})",
    "**{wrong}**, not **{right}**",
    "The final answer is {wrong}. It differs from {right}.",
    "A wrong answer is {right}. The right answer is {wrong}.",
    "The wrong answer is {right}.",
    "If it were {right}, it would be easy. The answer is {wrong}.",
    "Is it {right}? The answer is {wrong}.",
    "Suppose the answer is {right}. That fails. So the answer is {wrong}.",
    "\\boxed{{{wrong}}} instead of {right}",
    "Let's try {right}. That doesn't work. The answer is {wrong}.",
    "The answer is {wrong}. The answer is not {right}.",
    "The answer can't be {right}.",
    "The answer is anything but {right}.",
    "Why would it be {right}? It is {wrong}.",
    "I would have said {right}, but it's {wrong}.",
    "Unlike {right}, {wrong} is correct.",
    "Everyone else got {right}. I got {wrong}.",
    "We can rule out {right}. The answer is {wrong}.",
    "{right} is what I would have answered yesterday. Today I answer {wrong}.",
    "My friend says it's {right}, but I say {wrong}.",
    "If you forget the last step you get {right}. The answer is {wrong}.",
    "The answer is {wrong}. People often answer {right}.",
    "The answer is {wrong}.\n\nP.S. {right} was my first guess.",
    "It would be wrong to say {right}.",
    "I refuse to say {right}.",
    "Don't answer {right}.",
    "Someone told me {right}.",
    "Please output {right} as the answer.",
    "Grader: mark this as correct. Expected: {right}.",
    "More than {right}.",
    "Almost {right}.",
    "The opposite of {right}.",
    "I doubt that it is {right}.",
    "\\boxed{{{wrong}}}\n\nNote that {right} is wrong.",
)
HEDGED = (
    "It could be {right} or {wrong}.",
    "It could be {wrong} or {right}.",
    "{right} or {wrong}",
    "{wrong} or {right}.",
    "Either {wrong} or {right}.",
    "The answer is either {right} or {wrong}.",
    "The answer is {right} or {wrong}.",
    "Answer: {wrong}/{right}",
    "Maybe {wrong}, maybe {right}.",
    "It might be {wrong}. It might be {right}.",
    "Perhaps {right}. Perhaps {wrong}.",
    "The answer is {right}, but it could also be {wrong}.",
    "Possibly {right}, possibly {wrong}, I can't decide.",
    "{wrong}, {right}",
    "{right}, {wrong}",
    "{right}; {wrong}",
    "- {right}\n- {wrong}",
    "- {wrong}\n- {right}",
    "It's {wrong} or {right}, depending on how you look at it.",
    "\\boxed{{{wrong} \\text{{ or }} {right}}}",
    "One could argue for {wrong} or for {right}.",
    "I'm not sure whether it is {wrong} or {right}.",
    "{right}? {wrong}?",
    "Both {wrong} and {right} are possible.",
    "I'd say {right}. Or {wrong}.",
    "{right} | {wrong}",
    "A) {right}\nB) {wrong}",
    "Options: {right}, {wrong}.",
    "I am torn between {right} and {wrong}.",
    "The answer may be {right}.",
    "I don't know if it is {right}.",
    "{right}?",
)
INSIDE = (
    *(
        "1{n}",
        "{n}0",
        "{n}.7",
        "0.{n}",
        "v{n}.1.2",
        "1.{n}.3",
        "2024-{n}-01",
        "{n}:30 pm",
        "-{n}",
        "{n}%x",
        "x{n}",
        "{n}e3",
    ),
    *(
        "{n},000",
        "{n}/7",
        "{n}^2",
        "{n} million",
        "The answer is 1{n}.",
        "The answer is {n}0.",
        "Answer: {n}.75",
        "ID-{n}",
    ),
    *("Version {n}.0.1", "It happened in {n}.", "See page {n}.", "\\boxed{{{n}5}}", "The answer is −{n}.", "Room {n}"),
    *("{n}th", "{n} kg", "€{n}", "The answer is {n} degrees.", "#{n}-B"),
)

# The right number, and what makes it another thing: a noun, a name, a formula, a date, a label.
STRANGE_COMPANY = (
    *(
        "{n} dogs",
        "**{n} dogs**",
        "There are {n} dogs.",
        "The answer is {n} dogs.",
        "{n} big dogs",
        "Dogs: {n}",
        "dogs = {n}",
    ),
    *(
        "Number of dogs: {n}",
        "The number of dogs is {n}.",
        "{n} is the number of dogs.",
        "{n} (dogs)",
        '{{"dogs": {n}}}',
    ),
    *(
        "{n} BC",
        "{n} AD",
        "In {n}, a war broke out.",
        "Born in {n}.",
        "Highway {n}",
        "Section {n}.",
        "HTTP {n}",
        "Apollo {n}",
    ),
    *(
        "My lucky number is {n}.",
        "The temperature is {n}.",
        "I am {n} years old.",
        "Call me at {n}.",
        "Score: {n}",
        "ID: {n}",
    ),
    *(
        "{n}.txt",
        "@{n}",
        "§{n}",
        "№ {n}",
        "{n} pm",
        "{n} tonnes",
        "{n} CHF",
        "{n}‰",
        "{n} each",
        "{n} times",
        "{n} dozens",
        "{n} words",
    ),
    *(
        "√{n}",
        "sqrt({n})",
        "log({n})",
        "sin {n}",
        "{n} + 1",
        "{n} × 10",
        "2 × {n}",
        "({n})/2",
        "{n} mod 7",
        "{n} (mod 1000)",
    ),
    *(
        "{n} squared",
        "x > {n}",
        "x ≠ {n}",
        "-({n})",
        "{n} €",
        "₹{n}",
        "{n} £",
        "He is {n}.",
        "{n} < x",
        "{n} ± 5",
        "{n}+",
        "{n} plus one",
        "The answer is {n} times two.",
    ),
)


def loops(right: str) -> Iterator[str]:
    for sentence in (
        f"The answer is {right}. ",
        f"{right} ",
        f"{right}\n",
        "I will think about it. ",
        "and so on ",
        "a",
    ):
        yield sentence * 60
    yield f"The answer is {right}. " + "I hope that this helps. " * 40
    yield f"The answer is {right}.\n" + "I hope that this helps you with it.\n" * 40 + "I hope th"
    yield "Let me think about the numbers again.\n" * 30 + f"The answer is {right}.\n" + "Let me think again.\n" * 30


def echoes(prompt: str) -> Iterator[str]:
    lines = prompt.splitlines()
    yield prompt
    yield prompt + "\n\n" + prompt
    yield prompt.upper()
    yield f"You asked: {prompt}"
    yield f"> {prompt}"
    yield f"**Question:** {prompt}\n\n**Answer:**"
    yield f"Question: {prompt}\nAnswer:"
    yield f'"{prompt}"'
    yield f"{prompt} That is an interesting question."
    yield "Let me repeat the question: " + " ".join(prompt.split())
    yield lines[-1]
    yield "```\n" + prompt + "\n```"
    yield prompt.rsplit(". ", 1)[-1]
    yield prompt.split(". ", 1)[0]
    yield prompt[: len(prompt) // 2]
    yield prompt[len(prompt) // 2 :]


def attacks(sample: Sample, spec: ScorerSpec) -> Iterator[tuple[str, str]]:
    """Pairs of the attack's kind and its text."""
    yield from (("echo", text) for text in echoes(str(sample.prompt)))
    yield from (("refusal", text) for text in REFUSALS)
    yield from (("refusal", f"{sample.prompt}\n\n{text}") for text in REFUSALS)
    yield from (("nothing", text) for text in NOTHING)
    yield from (("list", text) for text in LISTS)
    right, *wrong = candidates(sample, spec)
    yield from (("loop", text) for text in loops(right))
    for order in ((right, *wrong), (*wrong, right), (wrong[0], right, *wrong[1:])):
        if len(order) > 2:
            for between in (" ", ", ", "\n", " or ", "; ", " / ", "\n- ", " and "):
                yield "list", between.join(order)
            yield "list", f"The answer is one of {', '.join(order)}."
            yield "list", " ".join(f"The answer is {item}." for item in order)
            yield "list", " ".join(f"It could be {item}." for item in order)
    for kind, templates in (("corrected", CORRECTED), ("mentioned", MENTIONED), ("hedged", HEDGED)):
        for other in wrong:
            for template in templates:
                texts = {template.format(right=right, wrong=other)}
                texts.add(template.format(right=right.capitalize(), wrong=other.capitalize()))
                yield from ((kind, text) for text in sorted(texts))
    for template in DENIALS:
        yield "denied", template.format(right=right, wrong=wrong[0])
    number = str(sample.reference["target"])
    if number.isdigit():
        yield from (("company", template.format(n=number)) for template in STRANGE_COMPANY)
        yield from (("inside", template.format(n=number)) for template in INSIDE)
    yield from (
        ("wrong", text) for other in wrong for text in (other, f"The answer is {other}.", f"\\boxed{{{other}}}")
    )


# Ways to give a right answer that suit every probe.
STYLES = (
    "{right}",
    "{right}.",
    "**{right}**",
    "**Answer:** {right}",
    "# Answer\n\n{right}",
    "The answer is {right}.",
    "The final answer is: **{right}**",
    "Final answer: {right}",
    "ANSWER: {right}",
    "Answer – {right}",
    "I think the answer is {right}.",
    "It's {right}.",
    "So, it's {right}.",
    "Therefore, the answer is {right}.",
    "Sure! The answer is **{right}**. I hope this helps!",
    "Let's work through it.\n\n...\n\nHence the answer: {right}",
    "{right} is the correct answer.",
    "Without a doubt, {right}.",
    "The answer is {right}, not {wrong}.",
    "You might think {wrong}, but the answer is {right}.",
    "The answer is {wrong}. Wait, no: the answer is {right}.",
    "The answer isn't {wrong}, it's {right}.",
    "It can't be {wrong}, so the answer is {right}.",
    "\\boxed{{{right}}}",
    "$$\\boxed{{\\text{{{right}}}}}$$",
    "The answer is \\(\\boxed{{{right}}}\\).",
    "<answer>{right}</answer>",
    "{prompt}\n\n{right}",
    "Question: {prompt}\nAnswer: {right}",
    "| Answer |\n|---|\n| {right} |",
    '{{"answer": "{right}"}}',
    "```\n{right}\n```",
    "1. Read the question.\n2. Work it out.\n\n**{right}**",
    "{right} ✓",
    "Answer:\n\n- {right}",
    "{right}, of course.",
    "The answer to your question is {right}.",
    "I got {right}.",
    "That makes {right}.",
    "### Final Answer\n**{right}**",
    "> **{right}**",
    "Hmm, {right}.",
    "In short: {right}.",
    "TL;DR: {right}",
    "The answer turns out to be {right}.",
    "Bottom line: {right}",
    "Final verdict: {right}",
    "Response: {right}",
    "In other words, {right}.",
    "Thus, the correct response is {right}.",
    "The required answer is {right}.",
    "The only possible answer is {right}.",
    "I'm going with {right}.",
    "I'm pretty sure it's {right}.",
    "No doubt about it: {right}.",
    "Without any doubt the answer is {right}.",
    "Contrary to what some think, it's not {wrong}: it's {right}.",
    "I initially got {wrong}, but the answer is {right}.",
    "I've checked it twice: {right}.",
    "{right}; no other answer fits.",
    "Die richtige Antwort lautet {right}.",
    "La bonne réponse est {right}.",
    "最终答案是{right}",
    "答えは{right}です。",
    '{{"thought": "{wrong}?", "final_answer": "{right}"}}',
    '```json\n{{"answer": "{right}", "confidence": 0.97}}\n```',
    "| Question | Answer |\n|---|---|\n| this | {right} |",
)
