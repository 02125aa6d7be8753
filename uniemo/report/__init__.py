"""HTML reports: one self-contained file about a run, a folder of runs or a study; no network, no script.

A report is made from the files that commands have written; nothing of modules or baselines is imported.
"""
