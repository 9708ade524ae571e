"""The import rule of ARCHITECTURE.md, the cold start, and what old Pythons must be able to parse."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "porting_check"
FRAMEWORKS = {"torch", "tensorflow", "tf_keras", "keras", "jax", "jaxlib", "flax", "equinox", "onnxruntime"}
RANK = {
    "neutral": 0,
    "recorder": 1,
    "numerics": 2,
    "testing": 2,
    "alignment": 3,
    "judgement": 4,
    "verdict": 4,
    "examination": 4,
    "diagnosis": 5,
    "environments": 6,
    "report": 6,
    "recording": 7,
    "transfer": 7,
    "judging": 7,
    "packing": 5,
    "shadow": 7,
    "gradients": 7,
    "gradient_parts": 7,
    "network": 8,
    "single_layer": 9,
    "layer_parts": 8,
    "crossverdict": 8,
    "room": 8,
    "calling": 7,
    "equivalence": 8,
    "equivalence_parts": 8,
    "equivalence_precision": 8,
    "equivalence_gradients": 8,
    "equivalence_sentence": 8,
    "equivalence_verdict": 8,
    "training": 7,
    "training_words": 7,
    "optimizing": 7,
    "sweep_points": 9,
    "sweep_functions": 9,
    "sweep_measures": 9,
    "sweeping": 9,
    "sides": 7,
    "by_hand": 7,
    "keeping": 7,
    "versions": 9,
    "configuration": 6,
    "crosschecking": 9,
    "comparison": 8,
    "demo": 9,
    "cli": 9,
}
"""A module may import modules of its own rank or below."""


def part(module: str) -> str:
    name = module.split(".")[1] if "." in module else ""
    return "cli" if name.startswith("cli") else name


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def violations(path: Path, module: str) -> list[str]:
    own = part(module)
    found = []
    for name in sorted(imports(path)):
        root = name.split(".")[0]
        if root in FRAMEWORKS or root.startswith("porting_check_"):
            found.append(f"{module} imports {name}")
        if root == "porting_check" and own in RANK and RANK.get(part(name), -1) > RANK[own]:
            found.append(f"{module} imports {name}, which stands to its left")
        if part(name) == "testing" and own != "testing" and root == "porting_check":
            found.append(f"{module} imports {name}, which is for tests of adapters only")
    return found


def modules() -> list[tuple[Path, str]]:
    return [(p, ".".join(p.relative_to(ROOT).with_suffix("").parts)) for p in sorted(PACKAGE.rglob("*.py"))]


def test_every_part_of_the_package_has_its_place():
    assert {part(module) for _, module in modules()} - {"__init__", "__main__"} <= set(RANK)


def test_nothing_imports_to_its_left():
    assert [v for path, module in modules() for v in violations(path, module)] == []


def test_the_check_can_fail(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("import torch\nfrom porting_check.report import result\nimport porting_check_torch\n")
    assert len(violations(bad, "porting_check.neutral.bad")) >= 3
    bad.write_text("from porting_check.testing import cases\n")
    assert violations(bad, "porting_check.comparison")
    assert violations(bad, "porting_check.testing.bad") == []


@pytest.mark.parametrize("folder", ["porting_check/neutral", "porting_check/recorder", "adapters"])
def test_what_runs_inside_old_environments_parses_as_python_3_7(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_adapters_import_their_framework_and_the_neutral_language_only():
    own = {"torch": {"torch"}, "tensorflow": {"tensorflow", "keras", "tf_keras"}}
    own.update({"jax": {"jax", "jaxlib", "flax", "equinox", "keras"}, "onnxruntime": {"onnxruntime"}})
    for name, allowed in own.items():
        for path in sorted((ROOT / "adapters" / f"porting_check_{name}").rglob("*.py")):
            for module in imports(path):
                root = module.split(".")[0]
                assert root not in FRAMEWORKS - allowed, f"{path} imports {module}"
                if root == "porting_check" and module != "porting_check":
                    assert module.startswith("porting_check.neutral"), f"{path} imports {module}"


def test_no_init_file_shadows_the_package_adapters():
    assert not (ROOT / "adapters" / "__init__.py").exists()


@pytest.mark.parametrize(
    "statement", ["import porting_check", "from porting_check import cli; cli.main(['--help'])"]
)
def test_a_cold_start_imports_nothing_heavy(statement):
    heavy = FRAMEWORKS | {"scipy", "onnx", "porting_check_torch", "porting_check_tensorflow"}
    heavy |= {"porting_check_jax", "porting_check_onnxruntime"}
    script = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
    script += f"print('LOADED', sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("LOADED []"), done.stdout[-300:]


def test_public_names_are_the_functions_and_not_modules():
    script = (
        "import porting_check.comparison, porting_check as pc; "
        "print(callable(pc.compare), callable(pc.record), pc.Trace.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "True", "Trace"], done.stderr


def test_an_unknown_public_name_says_what_there_is():
    import porting_check

    with pytest.raises(AttributeError, match="compare"):
        porting_check.nonsense  # noqa: B018
