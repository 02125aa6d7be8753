"""Networks, their losses and the emotion space; import from the modules, which load heavy libraries."""
