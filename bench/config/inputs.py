"""What commands on a dataset's files say of streams: `data.inputs.KEY=value`, as in a method's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import UserError
from datamodules.errors import DataError
from datamodules.types import Inputs

PREFIX = "data.inputs."


def inputs_asked(overrides: Sequence[str]) -> tuple[Inputs, list[str]]:
    """The inputs that a command line asks for, none but these, and what else it says.

    Raises:
        UserError: for a key that inputs have not, a wrong type or a kind of stream that there is not.
    """
    asked = [each.removeprefix(PREFIX) for each in overrides if each.startswith(PREFIX)]
    if not asked:
        return Inputs(None, None), list(overrides)
    if without := next((each for each in asked if "=" not in each), None):
        raise UserError(f"'{PREFIX}{without}' is not key=value")
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from datamodules.streams.known import streams_of  # it imports torch

    try:
        schema = OmegaConf.structured(Inputs(None, None))
        inputs: Inputs = OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.from_dotlist(asked)))  # type: ignore[assignment]
        streams_of(inputs)
    except OmegaConfBaseException as error:
        raise UserError(f"{PREFIX}{error.full_key}: {str(error).splitlines()[0]}") from error
    except YAMLError as error:
        raise UserError(f"{' '.join(PREFIX + each for each in asked)}: {str(error).splitlines()[0]}") from error
    except DataError as error:
        raise UserError(str(error)) from error
    return inputs, [each for each in overrides if not each.startswith(PREFIX)]
