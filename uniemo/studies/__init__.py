"""Studies: the paper's tables and figures, each a YAML file; one runner, tables and plots from its results alone.

This package starts ``uniemo`` commands and reads the files that they leave; it knows nothing of models and training.
docs/studies.md says how a study is written.
"""
