from tests.tiny_runs import run_folder  # noqa: F401
