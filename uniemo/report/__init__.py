"""HTML reports: one self-contained file about a run, a folder of runs or a study; no network, no script.

``reading`` takes what files hold, ``runs`` and ``studies`` arrange it, ``page`` renders the templates. Commands alone
write what is read here; nothing of modules or baselines is imported.
"""
