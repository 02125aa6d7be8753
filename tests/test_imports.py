"""What an import reads; its direction is checked by import-linter (``make check``)."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import uniemo

PACKAGE = Path(uniemo.__file__).parent


def test_file_names_are_unique():
    names = Counter(path.name for path in PACKAGE.rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= {"__init__.py", "__main__.py", "base.py"}


def test_emoset_reads_few_files():
    code = "import uniemo.data.emoset, sys; print(sum(name.partition('.')[0] == 'uniemo' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 12


def loaded_by(code):
    """Return the heavy packages that are loaded after ``code`` in a fresh process."""
    heavy = ("torch", "lightning", "diffusers", "transformers", "open_clip", "torchmetrics", "matplotlib")
    heavy += ("torch._dynamo", "scipy", "pandas")
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
        "from uniemo.cli import main; main(['filter', '--help'])",
        "from uniemo.cli import main; main(['evaluate', '--help'])",
        "from uniemo.cli import main; main(['train-classifier', '--help'])",
        "from uniemo.cli import main; main(['convert', '--help'])",
        "from uniemo.cli import main; main(['report', '--help'])",
        "from uniemo.cli import main; main(['reproduce', '--help'])",
        "from uniemo.cli import main; main(['fitt'])",
    ],
)
def test_light_starts(code):
    assert loaded_by(code) == []


def test_models_data_metrics_and_classify_need_no_lightning_and_no_diffusers():
    names = ("checkpoint", "cli.classify", "data", "generation.filtering", "metrics", "models.uniemo")
    code = "import " + ", ".join(f"uniemo.{name}" for name in names)
    assert not {"lightning", "diffusers"} & set(loaded_by(code))


def test_commands_start_without_scipy_and_without_the_compiler_that_lightning_alone_needs():
    start = "from uniemo.deferred import defer_packages; defer_packages(); import uniemo.models.uniemo"
    assert not {"torch._dynamo", "scipy"} & set(loaded_by(f"{start}, uniemo.cli.classify"))
    assert not {"scipy", "pandas"} & set(loaded_by(f"{start}, uniemo.cli.training"))
