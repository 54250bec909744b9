"""A client of the local Route 53 without a network: used like boto3's, with botocore's own errors, paginators and checks."""

from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.loaders
from botocore import xform_name
from botocore.errorfactory import ClientExceptionsFactory
from botocore.exceptions import OperationNotPageableError, ParamValidationError
from botocore.hooks import HierarchicalEmitter
from botocore.paginate import Paginator
from botocore.validate import ParamValidator

from hafleet.lab import route53_model
from hafleet.lab.route53_engine import ApiError, Engine
from hafleet.lab.route53_words import Shape, bare

_IDS = frozenset({"HostedZoneId", "ResourceId", "DelegationSetId", "Id", "ChangeId"})  # boto3 strips paths off these


class Meta:
    """What users of boto3's ``client.meta`` ask for."""

    def __init__(self) -> None:
        self.events = HierarchicalEmitter()
        self.service_model = route53_model.service()
        self.region_name = "aws-global"


class EngineClient:
    """``EngineClient(engine).list_resource_record_sets(HostedZoneId=...)``: every operation of the engine, by boto3's name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.meta = Meta()
        self.exceptions = _exceptions()

    def __getattr__(self, name: str) -> Callable[..., Shape]:
        operation = _operations().get(name)
        if operation is None:
            raise AttributeError(f"route53 has no operation {name}")

        def call(**params: Any) -> Shape:
            return self._call(operation, params)

        self.__dict__[name] = call
        return call

    def get_paginator(self, name: str) -> "Paginator[Any]":
        """Botocore's own paginator over this client's calls."""
        operation = _operations()[name]
        config = _paginators().get(operation)
        if config is None:
            raise OperationNotPageableError(operation_name=name)
        return Paginator(getattr(self, name), config, route53_model.operation(operation))

    def close(self) -> None:
        """Nothing is open."""

    def _call(self, operation: str, params: dict[str, Any]) -> Shape:
        model = route53_model.operation(operation)
        sent = {name: bare(value) if name in _IDS else value for name, value in params.items()}
        if model.input_shape is not None:
            report = ParamValidator().validate(sent, model.input_shape)
            if report.has_errors():
                raise ParamValidationError(report=report.generate_report())
        context: dict[str, Any] = {}
        events = self.meta.events
        events.emit(f"before-call.route53.{operation}", model=model, params=sent, context=context)
        status, error = int(model.http.get("responseCode", 200)), None
        try:
            answer = self._engine.call(operation, sent)
        except ApiError as refused:
            status, error = refused.status, refused
            answer = {"Error": {"Type": "Sender", "Code": refused.code, "Message": refused.message}}
        answer["ResponseMetadata"] = {
            "RequestId": "lab",
            "HTTPStatusCode": status,
            "HTTPHeaders": {},
            "RetryAttempts": 0,
        }
        events.emit(f"after-call.route53.{operation}", http_response=None, parsed=answer, model=model, context=context)
        if error is not None:
            raise self.exceptions.from_code(error.code)(answer, operation) from error
        return answer


@cache
def _operations() -> dict[str, str]:
    """boto3's name of each operation -> the API's."""
    return {xform_name(name): name for name in route53_model.service().operation_names}


@cache
def _paginators() -> dict[str, Any]:
    found: dict[str, Any] = botocore.loaders.create_loader().load_service_model("route53", "paginators-1")
    return dict(found["pagination"])


@cache
def _exceptions() -> Any:
    return ClientExceptionsFactory().create_client_exceptions(route53_model.service())
