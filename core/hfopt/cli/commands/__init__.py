"""The core's commands. Each module has ``SUMMARY``, ``add_arguments(parser)`` and ``execute(args) -> exit code``, and
imports what it needs when it is executed, so that ``--help`` costs nothing."""
