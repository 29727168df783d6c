import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ensemble", "cluster", "jobs")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_only_cluster_imports_ray() -> None:
    importers = {path.relative_to(ROOT).parts[0] for path in SOURCES if "ray" in _imports(path)}
    assert importers == {"cluster"}


def test_packages_import_downwards_only() -> None:
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        above = PACKAGES[PACKAGES.index(package) + 1 :]
        assert not _imports(path) & set(above), path


def _ninetieth_percentile(values: list[int]) -> int:
    return sorted(values)[int(len(values) * 0.9)]


@pytest.mark.parametrize("package", PACKAGES)
def test_most_files_and_functions_can_be_read_in_one_go(package: str) -> None:
    paths = [path for path in SOURCES if path.is_relative_to(ROOT / package)]
    functions = [
        node.end_lineno - node.lineno + 1
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    ]
    assert _ninetieth_percentile([len(path.read_text().splitlines()) for path in paths]) <= 250
    assert _ninetieth_percentile(functions) <= 40


def test_weights_are_never_unpickled() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert keywords.get("weights_only", "True") == "True", path
            # torch.export.load has no such mode: it is for programs that a user trusts.
            if ast.unparse(node.func) == "torch.load":
                assert keywords["weights_only"] == "True", path


@pytest.mark.parametrize(
    "module",
    [
        "jobs.__main__",
        "jobs.settings",
        "jobs.stored_runs.layout",
        "ensemble",
        "ensemble.members.member",
        "ensemble.members.settings",
        "ensemble.views.settings",
        "ensemble.views.policies",
    ],
)
def test_parsing_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'ray', 'sklearn', 'timm'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
