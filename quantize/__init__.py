"""From a float student to small models that are proved to agree with it.

:mod:`~edgedf.quantize.conversion.convert` ties the stages together: ``sources`` (what is
converted), ``calibration`` (images), ``making`` (the quantized file, its proof and its thresholds)
and ``inspection`` (what the result consists of). ``auto`` searches for the recipe that passes.

:mod:`~edgedf.quantize.accuracy.verify` measures on labelled pictures what a small model loses,
:mod:`~edgedf.quantize.layer_error.ranking` in which layer, and
:mod:`~edgedf.quantize.diff.compare` compares any two of our files. The module ``wording`` beside
each of them puts the outcome into sentences and tables.
"""
