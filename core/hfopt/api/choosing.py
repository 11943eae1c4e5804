"""Pass choosers: what chooses passes for a config that names none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hfopt.api.config import Configured
from hfopt.api.systems import AcceleratorConfig


class PassChooser(Configured):
    """Chooses passes. Its ``Config`` is that of ``auto_optimizer_config``; called in the host, before anything runs."""

    @abstractmethod
    def choose(
        self,
        config: Mapping[str, Any],
        models: Collection[str],
        accelerators: Sequence[AcceleratorConfig],
        offered: Collection[str],
    ) -> tuple[Mapping[str, Any], str]:
        """The passes for one config.

        :param config: as the user wrote it, with names in place of sections that were written out elsewhere
        :param models: the types that the input model may have
        :param accelerators: what the target is asked to run on; empty: the CPU
        :param offered: the names of the passes that are installed
        :return: ``passes`` and ``pass_flows`` as a config has them, and a sentence for the user. There is more than one
            flow only if there is a search, and no pass if none is possible.
        """
