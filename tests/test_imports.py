"""Imports go strictly down (design section 1)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import uniemo

PACKAGE = Path(uniemo.__file__).parent
BASE = {"errors", "vocabulary", "cache", "class_paths", "configurations", "launch", "distributed", "torchscript", ""}
LOW = {"data", "models", "metrics", "generation", "miniature", "checkpoint", "stored_config", "convert"}
MAY_IMPORT = {
    "errors": BASE,
    "vocabulary": BASE,
    "cache": set(),
    "configurations": set(),
    "class_paths": {"errors"},
    "torchscript": {"errors"},
    "launch": {"errors"},
    "distributed": {"launch"},
    "checkpoint": BASE | {"miniature", "models", "checkpoint"},
    "stored_config": BASE | {"checkpoint"},
    "convert": BASE | {"miniature", "data", "models", "checkpoint", "convert"},
    "models": BASE | {"miniature", "models"},
    "data": BASE | {"miniature", "data"},
    "metrics": BASE | {"miniature", "metrics", "models", "data", "checkpoint", "stored_config"},
    "generation": BASE | {"generation", "data", "metrics", "models"},
    "miniature": BASE | {"miniature", "data", "models", "metrics"},
    "modules": BASE | LOW | {"modules"},
    "baselines": BASE | LOW | {"modules", "baselines"},
    "callbacks": BASE | LOW | {"modules", "callbacks"},
    "studies": BASE | {"studies"},  # starts commands and reads files
    "report": BASE | {"report", "studies"},
    "cli": BASE | LOW | {"modules", "baselines", "callbacks", "studies", "report", "cli"},
    "__main__": {"cli"},
    "__init__": BASE,
}


def imports(path):
    """Yield the top-level parts of uniemo, and the other packages, that a file imports."""
    parent = ("uniemo", *path.relative_to(PACKAGE).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(parent[: len(parent) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "uniemo" else [module]
        yield from names


def files():
    return sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path):
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        if name == "uniemo" or name.startswith("uniemo."):
            target = [*name.split("."), ""][1]
            if target in {"UniEmoError", "Vocabulary", "__version__"}:
                continue
            assert target in MAY_IMPORT[layer], f"{layer} imports {name}"
        if name.split(".")[0] in ("lightning", "pytorch_lightning"):
            assert layer in ("modules", "baselines", "callbacks", "cli") or path == PACKAGE / "data/datamodule.py", (
                f"{path} imports {name}"
            )


def loaded_by(code):
    """Return the heavy packages that are loaded after ``code`` in a fresh process."""
    heavy = ("torch", "lightning", "diffusers", "transformers", "open_clip", "torchmetrics", "matplotlib")
    code += f"\nimport sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import uniemo",
        "from uniemo.cli import main; main(['--help'])",
        "from uniemo.cli import main; main(['generate', '--help'])",
        "from uniemo.cli import main; main(['classify', '--help'])",
        "from uniemo.cli import main; main(['convert', '--help'])",
        "from uniemo.cli import main; main(['report', '--help'])",
        "from uniemo.cli import main; main(['reproduce', '--help'])",
        "from uniemo.cli import main; main(['fitt'])",
    ],
)
def test_light_starts(code):
    assert loaded_by(code) == []


def test_models_and_metrics_need_no_lightning():
    assert "lightning" not in loaded_by("import uniemo.models.uniemo, uniemo.metrics, uniemo.checkpoint")


def test_classify_needs_no_lightning_and_no_diffusers():
    names = ("checkpoint", "cli.classify", "data.images", "data.transforms", "models.uniemo")
    code = "import " + ", ".join(f"uniemo.{name}" for name in names)
    assert not {"lightning", "diffusers"} & set(loaded_by(code))
