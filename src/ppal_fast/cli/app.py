"""The commands and their options. What they do is in labelling.py, line.py, demo.py and about.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="ppal-fast",
    help="Learn to sort from few labels without giving anyone's records away.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder of a session, made by 'run'")]


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for report.html and the pictures")] = Path("demo"),
    seeds: Annotated[int, typer.Option(min=1, help="simulated lines to average over")] = 5,
) -> None:
    """The whole loop on a simulated line of 10,000 drives, beside other methods; writes report.html."""
    from .demo import run_demo

    run_demo(out, seeds)


@app.command()
def run(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV (plain or .gz) or Parquet")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="column of the labels; empty where not known yet")],
    id: Annotated[str | None, typer.Option(metavar="COLUMN", help="column that names the rows")] = None,
    ignore: Annotated[str, typer.Option(metavar="A,B", help="columns to leave out")] = "",
    owner: Annotated[str | None, typer.Option(metavar="COLUMN", help="owner of each row, for --unit owner")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="labels to buy in all (default 200)")] = None,
    per_round: Annotated[int, typer.Option(min=1, help="labels asked for at once")] = 20,
    epsilon: Annotated[float | None, typer.Option(help="privacy budget; without it nothing is private")] = None,
    delta: Annotated[float | None, typer.Option(help="delta of the privacy promise (default 1e-5)")] = None,
    unit: Annotated[str | None, typer.Option(help="what is protected: label, record or owner")] = None,
    schema: Annotated[Path | None, typer.Option(help="CSV of public facts: column,kind,low,high,levels")] = None,
    strategy: Annotated[str, typer.Option(help="how rows are chosen")] = "auto",
    learner: Annotated[str, typer.Option(help="what learns from the labels")] = "auto",
    simulate: Annotated[bool, typer.Option("--simulate", help="hide the labels and play the expert")] = False,
    seed: Annotated[int, typer.Option(min=0, help="seed of splits, queries and learners; never of noise")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the session (default: TABLE's name + -ppal)")] = None,
) -> None:
    """Start a session on a table and write the first rows to label; with --simulate play all rounds."""
    from . import labelling

    ignored = tuple(name.strip() for name in ignore.split(",") if name.strip())
    task = labelling.Task(
        table=table, label=label, id=id, ignore=ignored, owner=owner, budget=budget, per_round=per_round,
        epsilon=epsilon, delta=delta, unit=unit, schema=schema, strategy=strategy, learner=learner, seed=seed,
        out=out or Path(table.name.split(".")[0] + "-ppal"),
    )
    if simulate:
        labelling.simulate(task)
    else:
        labelling.start(task)


@app.command()
def ask(folder: Folder) -> None:
    """Write the rows to label next as CSV, with an empty column for the answers."""
    from .labelling import ask

    ask(folder)


@app.command()
def tell(folder: Folder, labels: Annotated[Path, typer.Argument(metavar="LABELS", help="the filled CSV")]) -> None:
    """Take answers from a filled CSV, all of them or a part; learn when the round is complete."""
    from .labelling import tell

    tell(folder, labels)


@app.command()
def report(folder: Folder) -> None:
    """Write report.html: what was asked and learned, and what was promised."""
    from .labelling import report

    report(folder)


@app.command()
def ledger(
    folder: Folder,
    audit: Annotated[bool, typer.Option("--audit", help="Attack the door that the numbers left through.")] = False,
) -> None:
    """Print the privacy ledger: the promise, what was spent, what was released."""
    from .labelling import ledger

    ledger(folder, audit)


@app.command()
def line(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="file made by LineScorer.save, watched for changes")],
    mqtt: Annotated[str | None, typer.Option(metavar="HOST[:PORT]", help="MQTT 5 broker")] = None,
    opcua: Annotated[str | None, typer.Option(metavar="URL", help="OPC UA server, opc.tcp://HOST:PORT")] = None,
    topic: Annotated[str | None, typer.Option(metavar="PREFIX", help="before /items, /decisions and /errors: a topic "
                                              "(default line) or node id (default ns=2;s=line)")] = None,
    session: Annotated[Path | None, typer.Option(metavar="DIR", help="session for the expert's items")] = None,
    queries_per_hour: Annotated[float | None, typer.Option(min=0, help="items for the expert, on average")] = None,
    ledger: Annotated[Path | None, typer.Option(metavar="DIR", help="session with a private model's ledger")] = None,
) -> None:
    """Answer a sorting line's items over MQTT or OPC UA until told to stop."""
    from .line import line

    line(model, mqtt=mqtt, opcua=opcua, topic=topic, session=session, queries_per_hour=queries_per_hour, ledger=ledger)


@app.command()
def kept(folder: Folder) -> None:
    """Write the items that a line has kept for the expert as CSV, with an empty column for the answers."""
    from .labelling import kept

    kept(folder)


@app.command()
def info() -> None:
    """Versions, instruction set of the compiled kernels, threads, cache folder, extras."""
    from .about import info

    info()


@app.command()
def warmup() -> None:
    """Compile the Numba kernels into their cache, so that no later command waits for it."""
    from .about import warmup

    warmup()
