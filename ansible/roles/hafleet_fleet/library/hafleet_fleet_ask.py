#!/usr/bin/python
"""Asks AWS what no module of the collections asks: one call that only reads."""

DOCUMENTATION = r"""
module: hafleet_fleet_ask
short_description: One reading call of AWS
description: Calls one operation of one service, every page of it, and returns a list that is in the answer.
options:
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
    description: The field of the answer that holds the list.
    type: str
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: hafleet maintainers
"""

EXAMPLES = r"""
- name: Look for prefix lists
  hafleet_fleet_ask:
    service: ec2
    call: describe_managed_prefix_lists
    arguments: {Filters: [{Name: prefix-list-name, Values: [com.amazonaws.eu-west-1.s3]}]}
    field: PrefixLists
"""

RETURN = r"""
found:
  description: The list.
  returned: always
  type: list
  elements: raw
"""

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    pass  # AnsibleAWSModule says so

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "service": {"required": True},
            "call": {"required": True},
            "arguments": {"type": "dict", "default": {}},
            "field": {"required": True},
        },
        supports_check_mode=True,
    )
    call, field = module.params["call"], module.params["field"]
    if call.partition("_")[0] not in {"describe", "get", "list"}:
        module.fail_json(msg=f"{call} may write: this module only reads")
    client = module.client(module.params["service"])

    @AWSRetry.jittered_backoff()
    def ask():
        if client.can_paginate(call):
            return client.get_paginator(call).paginate(**module.params["arguments"]).build_full_result()
        return getattr(client, call)(**module.params["arguments"])

    try:
        found = ask().get(field) or []
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"{call} failed")
    module.exit_json(changed=False, found=found)


if __name__ == "__main__":
    main()
