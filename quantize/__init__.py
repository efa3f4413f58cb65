"""From a float student to small models that are proved to agree with it.

:mod:`~edgedf.quantize.conversion.convert` ties the stages together; each stage is a module of its
own: ``source`` (what is converted), ``export`` (from a checkpoint, needs torch), ``calibration``
(images), ``tflite`` and ``onnx`` (the two quantizers), ``describe`` (the spec), ``parity`` (the
proof), ``operators`` (what the result consists of) and ``report``.

:mod:`~edgedf.quantize.accuracy.verify` measures on labelled pictures what a small model loses:
``pair`` (the two models), ``gate`` (limits and verdicts), ``wording`` and ``html_report`` (for
people).

:mod:`~edgedf.quantize.layer_error.ranking` says which layer it loses that in: ``layers_graph``
(what a layer is), ``layers_tflite`` and ``layers_onnx`` (the tensors), ``noise`` (the arithmetic)
and ``layers_wording``.

:mod:`~edgedf.quantize.diff.compare` compares any two of our files: ``spec_changes``, ``structure``
(operators, layers and what they compute in), ``difference`` (the result) and ``diff_wording``.
"""
