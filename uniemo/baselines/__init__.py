"""What people would use instead of UniEmo, trained and tested by the same commands on the same data.

A baseline is one file and one configuration. To add one:

1. write a class with a name of its own as ``method``: of :class:`uniemo.baselines.base.ClassifierBaseline`, whose
   ``make_model`` returns a network from images to logits, or of :class:`uniemo.baselines.generative.GeneratorBaseline`;
2. write a YAML file that names it as ``model.class_path``, with the source of each number. Those of this package are
   called ``<method>.py`` and ``configs/baselines/<method>.yaml``; others may lie anywhere that Python imports from.

``uniemo fit``, ``test``, ``validate``, ``predict``, ``classify`` and ``generate`` need nothing else.
"""
