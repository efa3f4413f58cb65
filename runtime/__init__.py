"""Running an exported model on photographs, with numpy, OpenCV and one small runtime.

:class:`~edgedf.runtime.detector.Detector` is the way in. ``backends`` hold the runtimes,
``folder`` finds images, ``overlay`` draws a result, ``models`` finds the shipped student.
``interleaved`` times two models by turns, and ``host`` says on which machine.
"""
