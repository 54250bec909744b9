"""What botocore's own model of Route 53 says: operations, their shapes, and the limits of each field.

Route 53 answers a field that breaks its limits with InvalidInput and a text that names the field's place; botocore's
client checks only part of them, so the local Route 53 checks them all, from the same model.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.loaders
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

from hafleet.lab.route53_words import ApiError


@cache
def service() -> ServiceModel:
    """The API, version 2013-04-01."""
    return ServiceModel(botocore.loaders.create_loader().load_service_model("route53", "service-2"), "route53")


@cache
def operation(name: str) -> OperationModel:
    """One operation by its API name."""
    return service().operation_model(name)


def check(name: str, params: dict[str, Any]) -> None:
    """Hold a request against the limits of its fields.

    Raises:
        ApiError: InvalidInput, with every fault.
    """
    shape = operation(name).input_shape
    if shape is None:
        return
    faults = list(_faults(shape, params, ""))
    if faults:
        noun = "error" if len(faults) == 1 else "errors"
        raise ApiError("InvalidInput", f"{len(faults)} validation {noun} detected: {'; '.join(faults)}")


def _faults(shape: Shape, value: Any, place: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        prefix = f"{place}." if place else ""
        for name in shape.required_members:
            if value.get(name) is None:
                yield _fault("null", f"{prefix}{_lower(name)}", "Member must not be null")
        for name, item in value.items():
            if item is not None and name in shape.members:
                yield from _faults(shape.members[name], item, f"{prefix}{_lower(name)}")
        return
    if isinstance(shape, ListShape):
        for number, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{place}.{number}.member")
    for constraint in _broken(shape.metadata, value):
        yield _fault(value, place, constraint)


def _broken(limits: dict[str, Any], value: Any) -> Iterator[str]:
    size, what = (value, "value") if isinstance(value, int) else (len(value), "length")
    if "max" in limits and size > limits["max"]:
        yield f"Member must have {what} less than or equal to {limits['max']}"
    if "min" in limits and size < limits["min"]:
        yield f"Member must have {what} greater than or equal to {limits['min']}"
    if "enum" in limits and value not in limits["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]"
    if "pattern" in limits and not re.search(limits["pattern"], value):
        yield f"Member must satisfy regular expression pattern: {limits['pattern']}"


def _fault(value: Any, place: str, constraint: str) -> str:
    shown = value if value == "null" else f"'{value}'"
    return f"Value {shown} at '{place}' failed to satisfy constraint: {constraint}"


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]
