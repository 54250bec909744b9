"""IAM in front of the local AWS: a WSGI layer that refuses what the caller's policy does not allow, in each service's own words.

A policy is set per access key; a key without one may do everything. The name of the role's session, by which ``aws:userid`` tells
instances apart, is the session token: the lab gives each node its instance id for one.
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from moto.autoscaling.models import autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from hafleet.lab import aws_answers, iam_asks, iam_policy, route53_http
from hafleet.lab.aws_answers import Answer
from hafleet.lab.aws_faults import App, Call, read_call
from hafleet.lab.iam_policy import Ask, Policy
from hafleet.lab.route53_engine import ApiError

_ROLE = "AROALABLABLABLABLABL"  # unique id of the role that every caller has
_XML = (("Content-Type", "text/xml"),)


@dataclass(slots=True)
class Policies:
    """The policies in force, by access key, and what they refused. Thread-safe."""

    known: dict[str, Policy] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, caller: str) -> Policy | None:
        """The policy of this access key; None: everything is allowed."""
        with self._lock:
            return self.known.get(caller)

    def set(self, change: dict[str, Any]) -> dict[str, Any]:
        """``{"caller": key, "policy": document}`` puts a policy in force; ``null`` ends it. Raises ValueError."""
        if change:
            caller, document = str(change.get("caller") or ""), change.get("policy")
            if not caller or "policy" not in change:
                raise ValueError("caller (an access key) and policy (a document, or null) are wanted")
            policy = None if document is None else iam_policy.parse(document)
            with self._lock:
                self.known.pop(caller, None)
                if policy is not None:
                    self.known[caller] = policy
                self.refused.clear()
        with self._lock:
            return {"callers": sorted(self.known), "refused": list(self.refused)}

    def note(self, caller: str, ask: Ask) -> None:
        """Remember a refusal."""
        with self._lock:
            self.refused.append({"caller": caller, "action": ask.action, "resource": ask.resource})


class IamLayer:
    """WSGI: hands on what is allowed."""

    def __init__(self, app: App, policies: Policies, region: str) -> None:
        self._app = app
        self._policies = policies
        self._region = region

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        call = read_call(environ, body)
        policy = self._policies.of(call.caller)
        answer = self._refused(environ, body, call, policy) if policy and call.operation else None
        answer = answer or aws_answers.ask(self._app, environ, body)
        start_response(answer.status, [*answer.headers, ("Content-Length", str(len(answer.body)))])
        return [answer.body]

    def _refused(self, environ: dict[str, Any], body: bytes, call: Call, policy: Policy) -> Answer | None:
        """The refusal, if it is one."""
        asked = iam_asks.Asked(call.service, call.operation, _params(environ, body, call), self._region)
        session = environ.get("HTTP_X_AMZ_SECURITY_TOKEN") or "lab"
        common = {"aws:userid": (f"{_ROLE}:{session}",), "aws:RequestedRegion": (self._region,)}
        for ask in iam_asks.asks(asked, MotoFacts(self._region), common):
            why = policy.refusal(ask)
            if why:
                self._policies.note(call.caller, ask)
                user = f"arn:aws:sts::{iam_asks.ACCOUNT}:assumed-role/{call.caller}/{session}"
                return refusal(call.service, ask, user, why)
        return None


class MotoFacts:
    """Implements ``iam_asks.Facts``. Call it under the lock of the local AWS."""

    def __init__(self, region: str) -> None:
        self._scaling = autoscaling_backends[DEFAULT_ACCOUNT_ID][region]
        self._ec2 = ec2_backends[DEFAULT_ACCOUNT_ID][region]

    def group(self, name: str) -> tuple[str, dict[str, str]]:
        """See ``iam_asks.Facts``."""
        group = self._scaling.autoscaling_groups.get(name)
        if group is None:
            return "", {}
        return str(group.arn), {tag["Key"]: str(tag.get("Value") or "") for tag in group.tags}

    def group_of(self, instance: str) -> str:
        """See ``iam_asks.Facts``."""
        return self.tags(instance).get("aws:autoscaling:groupName", "")

    def tags(self, resource: str) -> dict[str, str]:
        """See ``iam_asks.Facts``."""
        return {key: str(value) for key, value in self._ec2.tags.get(resource, {}).items()}

    def interface(self, instance: str) -> str:
        """See ``iam_asks.Facts``."""
        found = (i for r in self._ec2.reservations.values() for i in r.instances if i.id == instance)
        return next((str(nic.id) for item in found for nic in item.network_interfaces), "")

    def associated(self, association: str) -> tuple[str, str]:
        """See ``iam_asks.Facts``."""
        for address in self._ec2.addresses:
            if address.association_id == association:
                interface = address.network_interface_id or self.interface(address.instance_id)
                return str(address.allocation_id), interface
        return "", ""


def refusal(service: str, ask: Ask, user: str, why: str) -> Answer:
    """How this service says no."""
    action = ask.action.lower() if service == "sqs" else ask.action  # as SQS really writes it
    on = "" if ask.resource == "*" else f" on resource: {ask.resource}"
    text = f"User: {user} is not authorized to perform: {action}{on} {why}"
    if service == "sqs":
        told = {"__type": "com.amazon.coral.service#AccessDeniedException", "message": text}
        headers = (("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-query-error", "AccessDenied;Sender"))
        return Answer("403 Forbidden", headers, json.dumps(told).encode())
    if service == "ec2":
        text = escape(f"You are not authorized to perform this operation. {text}")
        body = f"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>{text}</Message></Error></Errors>"
        return Answer("403 Forbidden", _XML, f"{body}<RequestID>lab</RequestID></Response>".encode())
    code = "AuthorizationError" if service == "sns" else "AccessDenied"
    body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
    return Answer("403 Forbidden", _XML, f"{body}<RequestId>lab</RequestId></ErrorResponse>".encode())


def _params(environ: dict[str, Any], body: bytes, call: Call) -> dict[str, Any]:
    """The call's parameters, whatever the service's protocol is. What cannot be read is for the service itself to refuse."""
    if call.service == "route53":
        try:
            asked = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
            return {**route53_http.request(*asked)[1], **route53_http.read_body(call.operation, body)}
        except ApiError:
            return {}
    if call.form:
        return dict(call.form)
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
