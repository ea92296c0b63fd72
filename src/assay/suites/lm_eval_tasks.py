"""Tasks of lm-evaluation-harness as suites: `lm-eval:TASK`, a name that it knows or the path of a task's YAML file.

Prompts, few-shot examples, filters and metrics are the harness's own code, on its own `Task`; what is asked, journaled and
compared is assay's. `lm-eval-chat:TASK` puts what is asked under the model's chat template.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from assay.errors import AssayError, ConfigError, SuiteError
from assay.plugins import nearest
from assay.results.canonical import digest_of
from assay.suites.lm_eval_metrics import metrics_of
from assay.suites.lm_eval_options import options_of
from assay.suites.suite import ScorerSpec, Suite
from assay.types import GenerateOptions, Json, Message, Prompt, Raw, Sample

PLAIN, CHAT = "lm-eval:", "lm-eval-chat:"

# What a run of the harness begins with, so that the same examples are drawn.
_SEED, _FEWSHOT_SEED = 0, 1234
# Before a conversation that stands in a prompt's place until the model's template is at hand.
_TALK = "\0"
# Of a task's configuration: where its documents come from, which are known themselves.
_PLACES = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata")


@dataclass(frozen=True, slots=True)
class TaskDocuments:
    """A task that was loaded, and each document's requests, by the document's number."""

    task: Any
    requests: Mapping[int, Sequence[Any]]


_loaded: dict[str, TaskDocuments] = {}


def is_task(source: str) -> bool:
    """Does `source` name a task of lm-evaluation-harness?"""
    return source.startswith((PLAIN, CHAT))


def task_of(content: str) -> TaskDocuments:
    """The task with this digest, once a suite of it was made in this process. Raises `ValueError`."""
    if content not in _loaded:
        raise ValueError("its task of lm-evaluation-harness isn't loaded; name it with --suite lm-eval:TASK")
    return _loaded[content]


def suite_from_task(source: str, say: Callable[[str], None] = lambda note: None) -> Suite:
    """The suite of a task, or of the tasks that a name stands for, each a group of its own.

    say: told which metrics are left out. Raises `SuiteError` for a task that is unknown, can't be loaded, or asks in a way that
    assay can't, and `ConfigError` where lm-evaluation-harness is not installed.
    """
    chat = source.startswith(CHAT)
    name = source.removeprefix(CHAT if chat else PLAIN)
    samples: list[Sample] = []
    scorers: dict[str, ScorerSpec] = {}
    options: dict[str, GenerateOptions] = {}
    tasks = _tasks(name)
    for task_name, task in tasks.items():
        _check(task_name, task)
        found, others = metrics_of(task)
        if others:
            what = (
                f"{', '.join(others)} of the task {task_name}: put together otherwise than by the harness's mean or "
                "perplexity, and so no score of each document, which is what is compared"
            )
            if not found:
                raise SuiteError(f"{what}; the task has no other metric")
            say(f"left out: {what}")
        with _quiet():
            documents = _documents(task, chat)
        _check_requests(task_name, documents)
        content = _content(task, chat)
        _loaded[content] = documents
        first = next(iter(documents.requests.values()))
        asked = first[0].request_type == "generate_until"
        if asked:
            options[task_name] = _options(task_name, first)
        spec = ScorerSpec("lm_eval" if asked else "lm_eval_weighed", {"task": task_name, "content": content})
        for number, requests in documents.requests.items():
            sample = _sample(task_name, task, number, requests, alone=len(tasks) == 1)
            samples.append(sample)
            scorers[sample.id] = spec
    if len(set(options.values())) > 1:
        raise SuiteError(
            f"the tasks of {name} generate in different ways ({', '.join(options)}); name each by itself: {source}"
        )
    called = Path(name).stem if len(tasks) > 1 else next(iter(tasks))
    chosen = next(iter(options.values()), GenerateOptions())
    return Suite(called + ("-chat" if chat else ""), 1, tuple(samples), scorers, chosen)


def _tasks(name: str) -> dict[str, Any]:
    """The tasks that a name or a file stands for, by their own names."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(f"tasks of lm-evaluation-harness need it ({error}): pip install 'assay[lm-eval]'") from None
    file = Path(name) if name.endswith((".yaml", ".yml")) else None
    if file is not None and not file.is_file():
        raise SuiteError(f"{file}: there is no such file")
    with _quiet():
        manager = TaskManager(include_path=str(file.parent), include_defaults=False) if file else TaskManager()
        if file is None and name not in manager.all_tasks:
            raise SuiteError(f"lm-evaluation-harness has no task {name!r}; {nearest(name, manager.all_tasks)[:200]}")
        try:
            tasks: dict[str, Any] = manager.load(name if file is None else _named(manager, file))["tasks"]
        except Exception as error:  # of its loader, of data sets', of the network, of the task's own code
            what = " ".join(str(error).split())[:300]
            raise SuiteError(
                f"lm-evaluation-harness can't load the task {name} ({type(error).__name__}: {what})"
            ) from error
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return tasks


def _named(manager: Any, file: Path) -> str:
    """The name under which the harness has a file; what it loads by a path is only a task, and no group of tasks."""
    own = file.resolve()
    names = [n for n, entry in manager.task_index.items() if entry.yaml_path and Path(entry.yaml_path).resolve() == own]
    return names[0] if names else str(file)


def _check(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise SuiteError(f"the task {name} runs code that a model wrote, which assay doesn't")
    if getattr(task, "MULTIMODAL", False):
        raise SuiteError(f"the task {name} shows images or sound, which no engine takes here")
    if (task.get_config("repeats") or 1) > 1:
        raise SuiteError(
            f"the task {name} asks each document {task.get_config('repeats')} times; once is what can be asked"
        )


def _check_requests(name: str, documents: TaskDocuments) -> None:
    """A task of the harness's own classes may ask each document for what it likes; a suite's answers have one way."""
    every = documents.requests.values()
    if not any(each.request_type == "generate_until" for own in every for each in own):
        return
    if any(len(own) > 1 or own[0].request_type != "generate_until" for own in every):
        raise SuiteError(
            f"the task {name} asks a document for several answers, or generates and weighs texts; one answer is what can be "
            "asked"
        )
    if len({_options(name, own) for own in every}) > 1:
        raise SuiteError(
            f"the task {name} generates each document's answer in a way of its own; one way for all is what can be asked"
        )


def _documents(task: Any, chat: bool) -> TaskDocuments:
    state = random.getstate()
    random.seed(_SEED)
    try:
        task.build_all_requests(
            apply_chat_template=chat, fewshot_as_multiturn=chat, chat_template=_talk if chat else None
        )
    except AssayError:
        raise
    except Exception as error:  # of the task's own templates and code
        raise SuiteError(
            f"lm-evaluation-harness can't ask the task {task.task_name} ({type(error).__name__}: {str(error)[:300]})"
        ) from error
    finally:
        random.setstate(state)
    requests: dict[int, list[Any]] = {}
    for instance in task.instances:
        requests.setdefault(instance.doc_id, []).append(instance)
    return TaskDocuments(task, {number: sorted(own, key=lambda each: each.idx) for number, own in requests.items()})


def _sample(name: str, task: Any, number: int, requests: Sequence[Any], *, alone: bool) -> Sample:
    first = requests[0]
    prompt = prompt_of(first.args[0]) if first.request_type != "loglikelihood_rolling" else Raw("")
    reference: dict[str, Json] = {
        "document": number,
        "content": msgspec.json.decode(json.dumps(first.doc, default=str)),
        "target": str(task.doc_to_target(first.doc)),
        "requests": [[str(part) for part in each.args if isinstance(part, str)] for each in requests],
    }
    return Sample(str(number) if alone else f"{name}/{number}", prompt, name, reference)


def prompt_of(context: str) -> Prompt:
    """What a context of a request asks: itself, untouched, or the conversation that it stands for."""
    if not context.startswith(_TALK):
        return Raw(context)
    try:
        return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(context.removeprefix(_TALK)))
    except ValueError:
        raise SuiteError("the task adds to a conversation what no chat template knows; name it with lm-eval:") from None


def _talk(history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    """A conversation in a prompt's place: which template it gets, the model knows."""
    if not add_generation_prompt:
        raise SuiteError("the task begins the model's answer, which a chat template can't; name it with lm-eval:")
    return _TALK + json.dumps(list(history), ensure_ascii=False)


def _options(name: str, requests: Sequence[Any]) -> GenerateOptions:
    try:
        return replace(options_of(requests[0].args[1]), truncate_prompt=True)
    except AssayError as error:
        raise SuiteError(f"the task {name}: {error}") from None


def _content(task: Any, chat: bool) -> str:
    """A digest of how the task asks and scores; its documents stand in the samples."""
    config = {key: value for key, value in task.dump_config().items() if key not in _PLACES}
    return digest_of("lm-eval task", json.dumps(config, sort_keys=True, default=str), chat)[:16]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of the harness and of data sets."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
