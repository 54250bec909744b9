#!/usr/bin/python
"""Asks AWS what no module of the collections asks: calls that only read, all in one process."""

DOCUMENTATION = r"""
module: hafleet_fleet_ask
short_description: Reading calls of AWS
description: Calls operations of services, every page of each, and returns what is in one field of each answer.
options:
  questions:
    description: The calls, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The service as boto3 names it.
        type: str
        required: true
      call:
        description: The operation as boto3 names it. It has to begin with describe, get or list.
        type: str
        required: true
      arguments:
        description: Its arguments.
        type: dict
        default: {}
      field:
        description: The field of the answer to return.
        type: str
        required: true
      absent:
        description: The error that means that it is not there.
        type: str
        default: ""
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: hafleet maintainers
"""

EXAMPLES = r"""
- name: Look for prefix lists
  hafleet_fleet_ask:
    questions:
      - service: ec2
        call: describe_managed_prefix_lists
        arguments: {Filters: [{Name: prefix-list-name, Values: [com.amazonaws.eu-west-1.s3]}]}
        field: PrefixLists
"""

RETURN = r"""
found:
  description: What is in the fields, in the order of the questions; an empty list where it is not there.
  returned: always
  type: list
  elements: raw
"""

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    pass  # AnsibleAWSModule says so

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

QUESTION = {
    "service": {"required": True},
    "call": {"required": True},
    "arguments": {"type": "dict", "default": {}},
    "field": {"required": True},
    "absent": {"default": ""},
}


@AWSRetry.jittered_backoff()
def ask(client, call, arguments):
    if client.can_paginate(call):
        return client.get_paginator(call).paginate(**arguments).build_full_result()
    return getattr(client, call)(**arguments)


def main():
    questions = {"type": "list", "elements": "dict", "required": True, "options": QUESTION}
    module = AnsibleAWSModule(argument_spec={"questions": questions}, supports_check_mode=True)
    clients, found = {}, []
    for asked in module.params["questions"]:
        service, call = asked["service"], asked["call"]
        if call.partition("_")[0] not in {"describe", "get", "list"}:
            module.fail_json(msg=f"{call} may write: this module only reads")
        if service not in clients:
            clients[service] = module.client(service)
        try:
            found.append(ask(clients[service], call, asked["arguments"]).get(asked["field"]) or [])
        except is_boto3_error_code(asked["absent"] or "nothing"):
            found.append([])
        except (BotoCoreError, ClientError) as error:
            module.fail_json_aws(error, msg=f"{service}: {call} failed")
    module.exit_json(changed=False, found=found)


if __name__ == "__main__":
    main()
