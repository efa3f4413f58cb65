"""Running an exported model on photographs, with numpy, OpenCV and one small runtime.

:class:`~edgedf.runtime.detector.Detector` is the way in. ``folder`` finds images, ``overlay``
draws a result, ``models`` finds the shipped student, ``interleaved`` times two models by turns,
``profile`` measures how fast a model is on a device.
"""
