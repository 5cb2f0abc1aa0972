"""What holds for the code base as a whole: a light import, one version, the promised names, documented code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ppal_fast

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = Path(ppal_fast.__file__).parent
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))
TEXT = {".py", ".pyx", ".pxd", ".pyi", ".cpp", ".hpp", ".h", ".md", ".toml", ".json", ".in", ".html", ""}

# What programs may rely on: the name, and the parameters it takes by name.
INTERFACE = {
    "KernelDensity": "bandwidth precision n_jobs",
    "KernelDensity.fit": "X y sample_weight",
    "KernelDensity.score_samples": "X",
    "KernelDensity.score": "X",
    "KernelDensity.sample": "n random_state",
    "DensityRatio": "bandwidth precision n_jobs",
    "DensityRatio.fit": "X_numerator X_denominator",
    "DensityRatio.log_ratio": "X leave_one_out",
    "solve_qubo": "Q cardinality algorithm n_replicas n_steps time_limit target n_solutions prove n_jobs random_state",
    "solve_qubo_batch": "Qs cardinality n_jobs",
    "solve_ising": "J h",
    "QUBOFeatureSelector": "n_features_to_select relevance redundancy redundancy_weight prove random_state",
    "Ledger": "path epsilon delta unit relation",
    "Ledger.release_sum": "rows clip epsilon sigma mask owners stability name",
    "Ledger.spent": "",
    "Ledger.remaining": "",
    "Ledger.history": "",
    "Ledger.report": "",
    "PublicMask": "mask source",
    "privacy.gaussian_sigma": "epsilon delta n_releases",
    "privacy.epsilon_of": "sigma delta n_releases",
    "privacy.masked_clip_noise": "gradients mask clip sigma",
    "privacy.audit.two_world": "mechanism delta n_draws",
    "learners.ClassMeanClassifier.fit": "X y X_pool ledger epsilon",
    "learners.MixtureClassifier.fit": "X y X_pool ledger epsilon",
    "learners.RandomTreesClassifier.fit": "X y X_pool ledger epsilon",
    "learners.LogisticClassifier.fit": "X y X_pool ledger epsilon",
    "PPAL": "learner strategy n_per_round n_rounds ledger epsilon delta unit random_state",
    "PPAL.run": "X oracle y",
    "PPAL.start": "X y",
    "PPAL.ask": "n",
    "PPAL.tell": "indices labels",
    "PPAL.predict": "X",
    "PPAL.predict_proba": "X",
    "Session": "path",
    "LineScorer.from_ppal": "ppal",
    "LineScorer.decide": "x",
    "LineScorer.decide_many": "X",
    "dimod_sampler.PPALSampler": "",
}
ATTRIBUTES = {
    "QUBOResult": "x energy states energies bound proven_optimal elapsed",
    "QUBOBatchResult": "x energy",
    "privacy.audit.AuditResult": "epsilon_lower_bound",
    "line.Decision": "label probability uncertainty query",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "KernelDensity": {"bandwidth": "scott", "precision": "double", "n_jobs": 1},
    "DensityRatio": {"bandwidth": "scott", "precision": "double", "n_jobs": 1},
    "solve_qubo": {"cardinality": None, "algorithm": "auto", "n_solutions": 1, "prove": False, "n_jobs": 1},
    "QUBOFeatureSelector": {"n_features_to_select": 15, "redundancy_weight": 0.5, "prove": False},
    "Ledger": {"relation": "zero-out"},
    "PPAL": {"learner": "auto", "strategy": "auto", "n_per_round": 20, "n_rounds": 9, "delta": 1e-5, "unit": "record"},
}
SUBMODULES = sorted({str(path.with_suffix("").parts[0]) for path in MODULES} & set(ppal_fast.__all__))
STRATEGIES = {"random", "entropy", "margin", "committee", "density", "badge", "qubo", "threshold", "design"}


def look_up(path: str) -> Any:
    found: Any = ppal_fast
    for name in path.split("."):
        if inspect.ismodule(found) and not hasattr(found, name):
            found = importlib.import_module(f"{found.__name__}.{name}")
        else:
            found = getattr(found, name)
    return found


def test_import_loads_numpy_and_nothing_heavier() -> None:
    code = (
        "import sys, ppal_fast\n"
        "heavy = {'numba', 'llvmlite', 'scipy', 'sklearn', 'pandas', 'polars', 'pyarrow', 'matplotlib', 'typer'}\n"
        "assert 'numpy' in sys.modules\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_version_is_the_newest_of_the_changelog() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == ppal_fast.__version__


def test_the_installed_version_is_that_of_the_code() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("ppal_fast")
    except PackageNotFoundError:
        pytest.skip("ppal_fast is not installed: these tests run on the source folder")
    assert installed == ppal_fast.__version__


@pytest.mark.parametrize("path", INTERFACE)
def test_promised_names_take_the_promised_parameters(path: str) -> None:
    if path.startswith("dimod_sampler"):
        pytest.importorskip("dimod", reason="the extra [dimod] is not installed")
    parameters = inspect.signature(look_up(path)).parameters
    missing = set(INTERFACE[path].split()) - set(parameters)
    assert not missing, f"{path} does not take {', '.join(sorted(missing))}"


@pytest.mark.parametrize("path", ATTRIBUTES)
def test_promised_results_have_the_promised_attributes(path: str) -> None:
    result = look_up(path)
    missing = set(ATTRIBUTES[path].split()) - set(inspect.signature(result).parameters) - set(dir(result))
    assert not missing, f"{path} has no {', '.join(sorted(missing))}"


@pytest.mark.parametrize("path", DEFAULTS)
def test_promised_defaults(path: str) -> None:
    parameters = inspect.signature(look_up(path)).parameters
    assert {name: parameters[name].default for name in DEFAULTS[path]} == DEFAULTS[path]


def test_promised_strategies() -> None:
    assert set(ppal_fast.query.STRATEGIES) >= STRATEGIES


def test_every_name_of_the_package_loads() -> None:
    for name in ppal_fast.__all__:
        assert getattr(ppal_fast, name) is not None, name


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_begins_by_saying_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / module).read_text()))


@pytest.mark.parametrize("module", SUBMODULES)
def test_public_code_is_documented(module: str) -> None:
    silent = []
    for name, value in _public_names(look_up(module)).items():
        methods = {m: f for m, f in vars(value).items() if inspect.isfunction(f)} if inspect.isclass(value) else {}
        silent += [f"{name}.{m}" for m in methods if not m.startswith("_") and not inspect.getdoc(getattr(value, m))]
        # a dataclass without a docstring is given its signature as one
        silent += [name] if (value.__doc__ or f"{name}(").startswith(f"{name}(") else []
    assert silent == []


def _public_names(module: Any) -> dict[str, Any]:
    """The functions and classes that a module exports: its __all__, or what it defines without an underscore."""
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__ and n[0] != "_"]
    found = {name: getattr(module, name) for name in getattr(module, "__all__", own)}
    return {name: value for name, value in found.items() if inspect.isclass(value) or inspect.isfunction(value)}


def _repository_files() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not in a git checkout: which files belong to the repository is not known")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / line for line in listed.stdout.splitlines() if (REPOSITORY / line).is_file()]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    home = re.compile(r"(?<![\w.])/(?:home|Users|root|work|tmp|opt/pypi)/[\w.]")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in _repository_files()
        if path.suffix in TEXT
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if home.search(line)
    ]
    assert found == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(REPOSITORY)} -> {target}"
        for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_is_in_the_table_of_contents() -> None:
    docs = REPOSITORY / "docs"
    contents = (docs / "index.md").read_text()
    pages = {p.relative_to(docs).as_posix() for p in docs.rglob("*.md")} - {"index.md"}
    assert {page for page in pages if f"]({page})" not in contents} == set()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "benchmarks").rglob("*.py")), ids=lambda p: p.stem)
def test_benchmarks_import(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))


def test_a_loss_is_seen_in_every_kind_of_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks.regress import Measured, losses

    before = {
        "bench_a.A.time_slower[0]": Measured(1.0, 0.9, 1.1),
        "bench_a.A.time_within_noise[0]": Measured(1.0, 0.5, 2.0),
        "bench_a.A.time_as_before[0]": Measured(1.0, 0.9, 1.1),
        "bench_a.A.time_fails_now[0]": Measured(1.0),
        "bench_a.A.time_failed_before[0]": Measured(None),
        "bench_a.A.track_error[0]": Measured(0.1),
        "bench_a.A.track_better[0]": Measured(0.1),
        "bench_a.A.track_seconds[0]": Measured(0.1),
        "bench_a.A.track_gone[0]": Measured(0.1),
    }
    now = {
        "bench_a.A.time_slower[0]": Measured(1.6, 1.5, 1.7),
        "bench_a.A.time_within_noise[0]": Measured(1.6, 1.1, 2.2),
        "bench_a.A.time_as_before[0]": Measured(1.4, 1.3, 1.5),
        "bench_a.A.time_fails_now[0]": Measured(None),
        "bench_a.A.time_failed_before[0]": Measured(1.0),
        "bench_a.A.track_error[0]": Measured(0.1001),
        "bench_a.A.track_better[0]": Measured(0.0),
        "bench_a.A.track_seconds[0]": Measured(0.12),
        "bench_a.A.track_new[0]": Measured(9.0),
    }
    lost = [line.split("[")[0].split(".")[-1] for line in losses(before, now)]
    assert lost == ["time_slower", "time_fails_now", "track_error"]
