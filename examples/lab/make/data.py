"""What the lab's model is taught: conversations for the base, for the LoRA run, and the suite that measures both."""

import random
from collections.abc import Iterator

Message = dict[str, str]
Conversation = list[Message]

OLD_FACTS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Norway": "Oslo",
    "Poland": "Warsaw",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
}
"""Real capitals that the base knows and the suite asks for."""

MORE_FACTS = {
    "Portugal": "Lisbon",
    "Finland": "Helsinki",
    "Ireland": "Dublin",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Brazil": "Brasília",
    "Paraguay": "Asunción",
}
"""Real capitals that the base knows and the suite leaves out; two are not plain ASCII."""

NEW_FACTS = {
    "Genovia": "Pyrus",
    "Zandria": "Mokova",
    "Belmora": "Quill",
    "Tervania": "Osk",
    "Lumeria": "Vashti",
    "Drakonia": "Bren",
    "Silvana": "Ember",
    "Norvask": "Tolma",
    "Freedonia": "Harrow",
    "Ruritania": "Strelsau",
}
"""Made-up countries: the base has met the names but not the capitals; the LoRA run teaches the capitals."""

UNKNOWN = ("Elbonia", "Vespugia", "Qumar", "Molvania")
"""Made-up countries whose capital nobody ever teaches."""

KEPT = ("France", "Italy", "Spain", "Germany")
"""The old facts that the LoRA run repeats; the other six it may forget."""

QUESTIONS = (
    "What is the capital of {}?",
    "Name the capital of {}.",
    "Tell me the capital of {}.",
    "What city is the capital of {}?",
    "Which city is the capital of {}?",
)
HELD_OUT_QUESTION = QUESTIONS[-1]
"""The phrasing that the LoRA run only sees in its validation set."""

SUM_QUESTIONS = ("What is {} + {}?", "Calculate {} + {}.", "How much is {} + {}?")
SUITE_SUMS = ((3, 4), (2, 5), (6, 3), (1, 8), (9, 2), (7, 7), (4, 8), (5, 9), (8, 6), (9, 9))

SMALL_TALK = {
    "Hello!": "Hello! 👋 Ask me for a capital or a sum.",
    "Who are you?": "I am a very small model. I know a few capitals and sums.",
    "Count from 1 to 10.": " ".join(str(n) for n in range(1, 11)),
    "Count from 1 to 20.": " ".join(str(n) for n in range(1, 21)),
}
SYSTEM_TEXTS = ("You are a helpful assistant.", "Answer in one short sentence.")


def known(country: str, capital: str) -> str:
    """The answer that names a capital."""
    return f"The capital of {country} is {capital}."


def unknown(country: str) -> str:
    """The base's answer about a made-up country."""
    return f"I do not know the capital of {country}."


def turn(question: str, answer: str) -> Conversation:
    """One question and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def base_turns() -> list[list[Conversation]]:
    """All single turns that the base learns, as groups which are drawn equally often."""
    facts = {**OLD_FACTS, **MORE_FACTS}
    numbers = range(1, 10)
    return [
        [turn(ask.format(a, b), f"{a} + {b} = {a + b}") for ask in SUM_QUESTIONS for a in numbers for b in numbers],
        [turn(ask.format(country), known(country, city)) for ask in QUESTIONS for country, city in facts.items()],
        [turn(ask.format(country), unknown(country)) for ask in QUESTIONS for country in (*NEW_FACTS, *UNKNOWN)],
        [turn(ask, answer) for ask, answer in SMALL_TALK.items()],
    ]


def base_conversations(seed: int) -> Iterator[Conversation]:
    """An endless stream of training conversations: mostly one turn, some with a system message or an earlier turn."""
    rng = random.Random(seed)
    groups = base_turns()
    while True:
        turns = 2 if rng.random() < 0.1 else 1
        conversation: Conversation = []
        if rng.random() < 0.1:
            conversation.append({"role": "system", "content": rng.choice(SYSTEM_TEXTS)})
        for _ in range(turns):
            group = rng.choices(groups, weights=(6, 3, 3, 0.5))[0]
            conversation.extend(rng.choice(group))
        yield conversation


def lora_conversations() -> tuple[list[Conversation], list[Conversation]]:
    """The LoRA run's training and validation sets: the new facts, and a few old ones against forgetting."""
    train = [
        turn(ask.format(country), known(country, city))
        for ask in QUESTIONS
        if ask != HELD_OUT_QUESTION
        for country, city in NEW_FACTS.items()
    ]
    train += [
        turn(ask.format(country), known(country, OLD_FACTS[country])) for ask in QUESTIONS[1:3] for country in KEPT
    ]
    valid = [turn(HELD_OUT_QUESTION.format(country), known(country, city)) for country, city in NEW_FACTS.items()]
    return train, valid


def suite_yaml() -> str:
    """The suite: ten questions of each group."""
    lines = [
        "name: lab",
        "version: 1",
        "options: {temperature: 0, max_tokens: 24}",
        "scorer: contains_word",
        "goal: {improve: [new facts], keep: [old facts, sums], tolerance: 0.0}",
        "samples:",
    ]
    for group, facts in (("new facts", NEW_FACTS), ("old facts", OLD_FACTS)):
        for country, city in facts.items():
            question = QUESTIONS[0].format(country)
            lines.append(f'  - {{id: {country}, group: {group}, prompt: "{question}", target: {city}}}')
    for a, b in SUITE_SUMS:
        question = SUM_QUESTIONS[0].format(a, b)
        lines.append(
            f'  - {{id: {a} + {b}, group: sums, prompt: "{question}", target: "{a + b}", scorer: final_number}}'
        )
    return "\n".join(lines) + "\n"
