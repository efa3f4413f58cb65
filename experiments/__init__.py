"""Research and tools, run from a checkout with the ``dev`` extra; no part of the package.

``python -m experiments.ablation --help`` compares recipes, ``python -m experiments.build_sample
--help`` makes the shipped sample; the other modules are what these two are made of.
"""
