"""What from_pretrained is given: the config's ``from_pretrained_args`` in transformers' own types."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from hfopt import PluginError
from hfopt_hf_model_loader.architecture import own_code
from hfopt_hf_model_loader.hf_config import FromPretrainedArgs

PACKAGES = {"bitsandbytes": ("bitsandbytes", "accelerate"), "gptq": ("gptqmodel", "optimum", "accelerate")}
"""What transformers needs to quantize by a method."""
CLASSES = {"bitsandbytes": "BitsAndBytesConfig", "gptq": "GPTQConfig"}


def check_packages(written: FromPretrainedArgs) -> None:
    """See that there is what the arguments need.

    :raises PluginError: a package is not installed
    """
    needed = {"accelerate": "max_memory"} if written.max_memory else {}
    if (method := written.quantization_method) is not None:
        needed |= dict.fromkeys(PACKAGES[method], f"quantization_method {method}")
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        reason = " and ".join(dict.fromkeys(needed[package] for package in missing))
        raise PluginError(
            f"{reason} needs {' and '.join(missing)}, which this environment lacks",
            hint=f"pip install {' '.join(missing)}",
        )


def from_pretrained_arguments(written: FromPretrainedArgs, attention: str | None, device: str) -> dict[str, Any]:
    """What from_pretrained is given. transformers 4 and 5 differ in their default dtype; here it is float32.

    :param attention: instead of the config's ``attn_implementation``
    :param device: ``cpu`` or ``cuda``; on the CPU ``device_map: auto`` is what happens anyway
    """
    own = {"dtype": written.torch_dtype, "attn_implementation": attention or written.attn_implementation}
    if written.device_map == "auto" and (written.max_memory or (device != "cpu" and find_spec("accelerate"))):
        limits = {int(name) if name.isdecimal() else name: each for name, each in (written.max_memory or {}).items()}
        own |= {"device_map": "auto", "max_memory": limits or None}
    if written.quantization_method is not None:
        own["quantization_config"] = _quantization(written.quantization_method, written.quantization_config or {})
    return {
        "dtype": "float32",
        **(written.extra_args or {}),
        **{name: value for name, value in own.items() if value is not None},
        "local_files_only": True,
        "output_loading_info": True,
        "trust_remote_code": bool(written.trust_remote_code),
        "weights_only": True,
    }


def _quantization(method: str, options: dict[str, Any]) -> Any:
    import transformers

    with own_code(f"quantization_config is none of {method}"):
        return getattr(transformers, CLASSES[method])(**options)
