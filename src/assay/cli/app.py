"""The verbs: one thin file each, imported when the verb is used."""

from __future__ import annotations

from cyclopts import App

from assay import __version__

app = App(
    name="assay",
    help="Which LoRA checkpoint to ship, and what each one broke.",
    version=__version__,
    help_format="plaintext",
)
app.command(
    "assay.cli.watch:watch",
    name="watch",
    help="Evaluate a folder's checkpoints as training writes them, and show what each gained and broke.",
)
app.command("assay.cli.report:report", name="report", help="Show the table again, from the journal.")
app.command(
    "assay.cli.status:status",
    name="status",
    help="Show what is done, what failed and why, and how far each sink has got.",
)
app.command("assay.cli.ship:ship", name="ship", help="Forward to sinks what they don't have yet.")
app.command("assay.cli.export:export", name="export", help="Write the journal's tables as Parquet files.")
app.command("assay.cli.take_in:import_command", name="import", help="Take results of go-ml's into the journal.")
app.command("assay.cli.query:query", name="query", help="Ask the journal in SQL.")
app.command("assay.cli.score:score", name="score", help="Score answers that already exist.")
app.command("assay.cli.probe:probe", name="probe", help="Ask a model the capability and content probes.")
app.command("assay.cli.generate:generate", name="generate", help="Have a model answer one prompt, as it comes.")
app.command("assay.cli.chat:chat", name="chat", help="Talk to a model in the terminal.")
app.command(
    "assay.cli.convert:convert_command",
    name="convert",
    help="Write an adapter in another engine's form.",
)
app.command("assay.cli.fetch:fetch", name="fetch", help="Fetch a model from the hub into its cache on this machine.")
app.command("assay.cli.models:models", name="models", help="Show the engines that are installed, and how to get more.")
app.command(
    "assay.cli.rescore:rescore_command",
    name="rescore",
    help="Score journaled answers again, by another scorer or judge.",
)
app.command(
    "assay.cli.judge_check:judge_check",
    name="judge-check",
    help="Measure a judge against labelled examples.",
)
app.command(
    "assay.cli.compare:compare_command",
    name="compare",
    help="Compare two checkpoints, runs or score files, sample by sample.",
)
app.command(
    "assay.cli.lm_eval:lm_eval_command",
    name="lm-eval",
    help="Run lm-evaluation-harness with any model, under any adapter.",
    help_flags=[],
    version_flags=[],
)
