"""What is wrong with a plugin: its hooks, what they return, the classes of its components.

A fault keeps a plugin or a component from being used; a notice is for its author.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from hfopt.api import hookspecs
from hfopt.api.commands import OWN
from hfopt.base.component import Component
from hfopt.base.errors import HfoptError, PluginError, foreseen
from hfopt.base.text import did_you_mean, printable

if TYPE_CHECKING:
    import pluggy
    from pydantic import TypeAdapter

T = TypeVar("T")

FRAMEWORKS = (
    *("datasets", "diffusers", "evaluate", "jax", "keras", "onnx", "onnx_ir", "onnxruntime", "openvino", "optimum"),
    *("pyarrow", "ray", "sklearn", "tensorflow", "torch", "transformers"),
)
"""What takes seconds to import, so that no module that `hfopt validate` imports may have it at its top."""

HOOKS = {name: inspect.signature(spec) for name, spec in vars(hookspecs).items() if name.startswith("hfopt_")}


def reason(error: BaseException) -> str:
    """An exception in one line, with its type where the text alone would say too little."""
    failure = foreseen(error)
    if failure is not None and failure is not error:
        return printable(failure.message)
    text = printable(" ".join(str(error).split()))
    says_it_all = text and isinstance(error, ImportError | HfoptError)
    return text if says_it_all else f"{type(error).__name__}: {text}".removesuffix(": ")


def attempt(call: Callable[[], T]) -> tuple[T | None, str | None]:
    """Call a plugin's code, which may raise anything, even SystemExit.

    :return: what it returned and None, or None and the reason why it failed
    """
    try:
        return call(), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - it is attributed to the plugin and kept
        return None, reason(error)


def framework_notices(before: Set[str]) -> tuple[str, ...]:
    """A notice for each ML framework that has been imported since.

    :param before: the names that were in `sys.modules` then
    """
    new = sys.modules.keys() - before
    return tuple(f"imports {name} at its top: import it where it is used" for name in FRAMEWORKS if name in new)


def hooks_of(manager: pluggy.PluginManager, plugin: object) -> dict[str, str]:
    """The plugin's functions that are marked as hooks, by name, and which hook each is."""
    options = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    return {name: marked.get("specname") or name for name, marked in options.items() if marked is not None}


def hook_faults(plugin: object, hooks: Mapping[str, str]) -> Iterator[str]:
    """Hooks that don't exist, and arguments that a hook doesn't have."""
    for name, hook in hooks.items():
        if hook not in HOOKS:
            near = did_you_mean(hook, HOOKS) or f"hooks are {', '.join(HOOKS)}"
            yield f"there is no hook {hook!r}: {near}"
            continue
        known = HOOKS[hook].parameters
        for argument, parameter in inspect.signature(getattr(plugin, name)).parameters.items():
            if argument not in known and parameter.default is parameter.empty:
                has = f"{hook} has no argument {argument!r}, it has {', '.join(known) or 'none'}"
                yield ": ".join(filter(None, [has, did_you_mean(argument, known)]))


def hook_notices(plugin: object, hooks: Mapping[str, str]) -> tuple[str, ...]:
    """Hooks that are never called because they lack their mark."""
    unmarked = [name for name in HOOKS if name in dir(plugin) and name not in hooks]
    if not hooks and not unmarked:
        return ("it has no @hookimpl: it offers nothing",)
    return tuple(f"{name} has no @hookimpl: it is not called" for name in unmarked)


def declared(hook: str, offer: object) -> list[Component]:
    """What a plugin's declaring hook returned, with names and summaries that can be shown.

    :raises PluginError: it is not a list of components, or a name is taken
    """
    wanted = f"{hook} must return a list of Component"
    if not isinstance(offer, Iterable) or isinstance(offer, str | bytes | Mapping):
        raise PluginError(f"{wanted}, and returned {offer!r}")
    components = list(offer)
    for component in components:
        if not isinstance(component, Component):
            raise PluginError(f"{wanted}, and there is {component!r} in it")
    if hook == "hfopt_commands" and (taken := [each.name for each in components if each.name in OWN]):
        raise PluginError(f"{hook} declares {', '.join(map(repr, taken))}, which hfopt has itself")
    twice = [name for name, count in Counter(each.name.casefold() for each in components).items() if count > 1]
    if twice:
        raise PluginError(f"{hook} declares {', '.join(map(repr, twice))} more than once; case does not matter")
    return [replace(each, name=printable(each.name), summary=printable(each.summary)) for each in components]


def component_faults(target: Any, base: type) -> list[str]:
    """Everything that keeps an object from being a component of a kind."""
    return _class_faults(target, base) if isinstance(target, type) else ["is not a class"]


@cache
def _class_faults(target: type, base: type) -> list[str]:
    faults = [] if issubclass(target, base) else [f"is not a subclass of {inspect.formatannotation(base)}"]
    return [*faults, *_attribute_faults(target, base), *_method_faults(target, base)]


@cache
def _class_attributes(base: type) -> dict[str, tuple[str, TypeAdapter[Any]]]:
    """The class attributes of a kind, by name: what a value must be, in words, and what validates it."""
    from pydantic import TypeAdapter

    wanted = {name: get_args(hint)[0] for name, hint in get_type_hints(base).items() if get_origin(hint) is ClassVar}
    return {name: (_words(each), TypeAdapter(each)) for name, each in wanted.items()}


def _words(wanted: Any) -> str:
    return re.sub(r"^type\[(.*)\]$", r"a subclass of \1", inspect.formatannotation(wanted))


def _attribute_faults(target: type, base: type) -> Iterator[str]:
    for name, (words, adapter) in _class_attributes(base).items():
        if not hasattr(target, name):
            if not hasattr(base, name):
                yield f"has no {name}, which must be {words}"
            continue
        value = getattr(target, name)
        try:
            adapter.validate_python(frozenset(value) if isinstance(value, set) else value, strict=True)
        except ValueError:
            yield f"has {value!r} as {name}, which must be {words}"


def _method_faults(target: type, base: type) -> Iterator[str]:
    if not _fits(target, base):
        yield f"has {_shown('__init__', target)}, which must be {_shown('__init__', base)}"
    public = {name: method for name, method in vars(base).items() if not name.startswith("_")}
    expected = {name: method for name, method in public.items() if inspect.isroutine(getattr(base, name))}
    for name in sorted(getattr(target, "__abstractmethods__", frozenset()) - expected.keys()):
        yield f"lacks the method {name}"
    for name, method in expected.items():
        own = getattr(target, name, None)
        if own is None or getattr(own, "__isabstractmethod__", False):
            yield f"lacks the method {_shown(name, method)}"
        elif not _fits(own, getattr(base, name)):
            yield f"has {_shown(name, inspect.getattr_static(target, name))}, which must be {_shown(name, method)}"


def _fits(own: Any, expected: Any) -> bool:
    """Whether `own` can be called as `expected` is: with all arguments, and with the required ones alone.

    :param own: as it is called: a class, a bound method, or a function that takes self
    """
    parameters = inspect.signature(expected).parameters.values()
    try:
        signature = inspect.signature(own)
        for given in (parameters, [each for each in parameters if each.default is each.empty]):
            named = {each.name: None for each in given if each.kind is each.KEYWORD_ONLY}
            signature.bind(*[None] * (len(given) - len(named)), **named)
    except TypeError:
        return False
    except ValueError:  # not written in Python: nobody knows its arguments
        return True
    return True


def _shown(name: str, value: Any) -> str:
    """A method as its author wrote it, without types; the repr of anything else."""
    function = getattr(value, "__func__", value)
    if not callable(function):
        return f"{name} = {value!r}"
    signature = inspect.signature(function)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    mark = f"@{type(value).__name__} " if isinstance(value, classmethod | staticmethod) else ""
    return f"{mark}{name}{signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"
