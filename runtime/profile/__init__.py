"""How fast a model is, how steady, how much memory it takes, and where the time goes.

A *worker* (``worker``) runs on the machine that is measured, whichever that is, and writes what it
sees as *events* (``events``), one line each, while it goes on. The machine that asked collects
them and makes a *document* of them (``assemble``, ``document``): so a lost connection costs what
was still to come and nothing else. ``devices`` are the ways to start a worker: here, on a board
over SSH, on a phone over adb.

The worker's side (``request``, ``events``, ``worker`` and what they import) runs on Python 3.9.
"""
