"""Keys of Olive's configs that this version does not act on, each with a sentence."""

from __future__ import annotations

from collections.abc import Mapping

NO_SCRIPTS = "user scripts are not run in this version"
NO_SEARCH = "there is no search in this version: every option must have one value"

_ALWAYS_FRESH = "a step runs again whenever anything that it depends on has changed; hfopt cache prune makes room"
_ONE_LOG = "everything that is not for the terminal goes to hfopt.log"

REFUSED: Mapping[str, Mapping[str, str]] = {
    "": {
        "azureml_client": "AzureML is not available in this version",
        "auto_optimizer_config": NO_SEARCH,
        "pass_flows": NO_SEARCH,
    },
    "engine": {
        "search_strategy": NO_SEARCH,
        "plot_pareto_frontier": NO_SEARCH,
    },
    "data_configs": {"user_script": NO_SCRIPTS, "script_dir": NO_SCRIPTS},
    "metrics": {"user_config": f"{NO_SCRIPTS}; data_config says what to measure on, and in which batches"},
}
"""Section to key to the reason why this version can't act on it. Null, false and {} ask for nothing."""

IGNORED: Mapping[str, Mapping[str, str]] = {
    "engine": {
        "clean_cache": _ALWAYS_FRESH,
        "clean_evaluation_cache": _ALWAYS_FRESH,
        "log_to_file": _ONE_LOG,
    },
    "passes": {"clean_run_cache": _ALWAYS_FRESH},
}
"""Section to key to the notice with which it is left out."""
