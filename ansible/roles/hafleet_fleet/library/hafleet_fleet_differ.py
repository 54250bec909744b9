#!/usr/bin/python
"""Shows with --diff what modules of the collections do not: how something is, and how it is wanted."""

DOCUMENTATION = r"""
module: hafleet_fleet_differ
short_description: Two values side by side
description: Compares two values and shows the difference. It calls nobody and changes nothing.
options:
  before:
    description: How it is.
    type: dict
    required: true
  after:
    description: How it is wanted.
    type: dict
    required: true
author: hafleet maintainers
"""

EXAMPLES = r"""
- name: Show what changes in the group
  hafleet_fleet_differ:
    before: {max_size: 4}
    after: {max_size: 6}
"""

RETURN = r"""#"""

from ansible.module_utils.basic import AnsibleModule


def main():
    sides = {"before": {"type": "dict", "required": True}, "after": {"type": "dict", "required": True}}
    module = AnsibleModule(argument_spec=sides, supports_check_mode=True)
    before, after = module.params["before"], module.params["after"]
    module.exit_json(changed=before != after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
