"""The ways to start a worker: on this machine, on a board over SSH, on a phone over adb."""
