"""From a recipe's name and overrides to a checked `Recipe`, composed by Hydra.

Hydra's own errors are several lines long and speak of search paths; here each becomes one `InputError` sentence that
names the key or choice at fault and the nearest valid one.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from hocket.errors import InputError, did_you_mean
from hocket.resources import config_folder, list_recipes
from hocket.training.config import Recipe, flatten

HYDRA_VERSION_BASE = "1.3"
SCHEMA = "recipe"
_TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

ConfigStore.instance().store(name=SCHEMA, node=Recipe)


def list_groups() -> dict[str, list[str]]:
    """Group -> its choices."""
    folders = sorted(path for path in config_folder().iterdir() if path.is_dir() and not path.name.startswith("_"))
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}


def locate(recipe: str | Path) -> tuple[Path, str]:
    """Folder and config name of a recipe: one of ours by name, or a YAML file by path."""
    text = str(recipe)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text)
        if not path.is_file():
            raise InputError(f"there is no recipe file {path}")
        if path.suffix != ".yaml":
            raise InputError(f"the recipe file {path} must end with .yaml")
        return path.resolve().parent, path.stem
    if text not in list_recipes():
        raise InputError(f'there is no recipe "{text}"{did_you_mean(text, list_recipes())}')
    return config_folder(), text


def load_recipe(
    recipe: str | Path, overrides: list[str] | None = None, fill: Mapping[str, str] | None = None
) -> Recipe:
    """Compose a recipe with `key=value` and `group=choice` overrides. InputError in one sentence if it cannot be.

    Args:
        fill: values for keys that are still to be given one, instead of an InputError.
    """
    folder, name = locate(recipe)
    overrides = [_mixture_quoted(override) for override in overrides or []]
    GlobalHydra.instance().clear()
    try:
        return to_recipe(_compose(folder, name, overrides), fill)
    except OverrideParseException as error:
        raise InputError(_explain_syntax(error.override)) from error
    except MissingConfigException as error:
        raise InputError(_explain_choice(name, error)) from error
    except ConfigCompositionException as error:
        raise InputError(_explain_composition(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_explain_value(error)) from error
    except yaml.YAMLError as error:
        raise InputError(f"the recipe {name} is not valid YAML: {' '.join(str(error).split())}") from error


def _compose(folder: Path, name: str, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(config_dir=str(folder), version_base=HYDRA_VERSION_BASE):
        try:
            return compose(config_name=name, overrides=[*overrides, *search_path_override(folder)])
        except ValueError as error:  # Hydra's word for group=3 and the like
            raise InputError(f"cannot use {' '.join(overrides)}: {' '.join(str(error).split())}") from error


def search_path_override(folder: Path) -> list[str]:
    """What lets a recipe of the user's draw on our groups."""
    ours = config_folder()
    return [] if folder == ours else [f"hydra.searchpath=['file://{ours}']"]


def to_recipe(composed: DictConfig, fill: Mapping[str, str] | None = None) -> Recipe:
    """Check keys, types and meaning of a composed config, whether or not it named the schema itself."""
    merged = OmegaConf.merge(OmegaConf.structured(Recipe), composed)
    for key, value in (fill or {}).items():
        if OmegaConf.is_missing(OmegaConf.select(merged, key.rpartition(".")[0]), key.rpartition(".")[2]):
            OmegaConf.update(merged, key, value)
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise InputError(f"{missing[0]} has no value yet: add {missing[0]}=VALUE")
    known = flatten(Recipe().to_dict())
    for key in flatten(OmegaConf.to_container(merged)):  # type: ignore[arg-type]
        if key not in known:
            raise InputError(_explain_key(key))
    recipe = OmegaConf.to_object(merged)
    assert isinstance(recipe, Recipe)
    return recipe


def _mixture_quoted(override: str) -> str:
    """`data.corpus=a:0.7,b:0.3` is one value, and so is `~/my corpus (1)`; Hydra's grammar has other uses for these."""
    key, _, value = override.partition("=")
    if key != "data.corpus" or value[:1] in tuple("'\"[{") or not re.search(r"[,~()&#%!]", value):
        return override
    return f"{key}='{value}'" if "'" not in value else override


def _explain_syntax(culprit: str) -> str:
    if "=" not in culprit:
        return f'"{culprit}" is no setting: write key=value or group=choice'
    key, value = culprit.split("=", 1)
    return f"the value of {key} holds brackets, commas or quotes that need quoting: write '{key}=\"{value}\"'"


def _explain_choice(recipe: str, error: MissingConfigException) -> str:
    missing = (error.missing_cfg_file or recipe).removesuffix(".yaml")
    if "/" not in missing:
        return f'the recipe "{recipe}" builds on "{missing}", which does not exist'
    group, choice = missing.rsplit("/", 1)
    return f'{group} has no choice "{choice}"{did_you_mean(choice, error.options or list_groups().get(group, []))}'


def _explain_composition(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return _explain_value(cause)
    ambiguous = re.match(r"Ambiguous value for argument '(.*?)'", str(error))
    if ambiguous:
        return f"{ambiguous.group(1)} lists several values: add -m to train one run for each"
    match = re.search(r"Could not override '(.*?)'|full_key: (\S+)", str(error))
    return _explain_key(match.group(1) or match.group(2)) if match else " ".join(str(error).split())


def _explain_value(error: Exception) -> str:
    key = getattr(error, "full_key", None)
    if not key:
        return " ".join(str(error).split())
    kind = _field_type(key)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value yet: add {key}=VALUE"
    if kind is None:
        return _explain_key(key)
    match = re.match(r"Value '(.*?)'", str(error))
    found = f', not "{match.group(1)}"' if match else ""
    return f"{key} must be {kind}{found}"


def _explain_key(key: str) -> str:
    """An unknown key: a valid one with the same last part, else the nearest in its group, else the nearest of all."""
    known = [*flatten(Recipe().to_dict()), *list_groups()]
    if key.rpartition(".")[0].endswith("_weights"):
        return f"{key} is new to the recipe: write +{key}=VALUE"
    namesakes = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    if namesakes:
        return f'there is no key "{key}" (did you mean "{namesakes[0]}"?)'
    group = key.split(".", 1)[0]
    siblings = [name for name in known if name.startswith(group + ".")]
    names = siblings or [name for name in known if "." not in name]
    return f'there is no key "{key}"{did_you_mean(key, names)}'


def _field_type(key: str) -> str | None:
    """What a value of this key must be, in words; None if there is no such key."""
    owner: Any = Recipe()
    parts = key.split(".")
    for part in parts[:-1]:
        owner = getattr(owner, part, None)
    types = {f.name: f.type for f in fields(owner)} if hasattr(owner, "__dataclass_fields__") else {}
    kind = types.get(parts[-1])
    if kind is None:
        return None
    return next((words for base, words in _TYPE_WORDS.items() if kind in (base, base | None)), "a group of settings")
