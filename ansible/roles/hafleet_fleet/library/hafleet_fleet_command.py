#!/usr/bin/python
"""Runs the command hafleet on the controller, about settings that are not in a file."""

DOCUMENTATION = r"""
module: hafleet_fleet_command
short_description: The command hafleet about settings
description: Writes the settings to a file, runs one command of hafleet about them, and removes the file.
options:
  command:
    description: The command C(hafleet).
    type: str
    default: hafleet
  words:
    description: What it is to do, with its options, but without C(--config).
    type: list
    elements: str
    required: true
  settings:
    description: The text of hafleet.yaml.
    type: str
    required: true
  region:
    description: The region in which it calls AWS.
    type: str
    required: true
  calm:
    description: Exit codes that are no failure.
    type: list
    elements: int
    default: [0]
  idle:
    description: What it prints when it has nothing to do. Without it the command is one that only tells.
    type: str
author: hafleet maintainers
"""

EXAMPLES = r"""
- name: Ask what the nodes may do
  hafleet_fleet_command:
    words: [iam-policy, --group=edge]
    settings: "{{ hafleet_fleet_settings | to_nice_yaml }}"
    region: eu-west-1
"""

RETURN = r"""
said:
  description: What it printed.
  returned: always
  type: str
"""

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

SPEC = {
    "command": {"default": "hafleet"},
    "words": {"type": "list", "elements": "str", "required": True},
    "settings": {"required": True},
    "region": {"required": True},
    "calm": {"type": "list", "elements": "int", "default": [0]},
    "idle": {},
}


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    told = module.params
    if shutil.which(told["command"]) is None:
        module.fail_json(
            msg=f"{told['command']} is no command here: pip install hafleet, or set hafleet_fleet_command to where it is"
        )
    path = Path(module.tmpdir) / "hafleet.yaml"  # a folder of this user alone, gone after the task
    path.write_text(told["settings"], encoding="utf-8")
    argv = [told["command"], *told["words"], f"--config={path}"]
    code, said, wrong = module.run_command(argv, environ_update={"AWS_DEFAULT_REGION": told["region"]})
    if code not in told["calm"]:
        why = (wrong or said).replace(str(path), "hafleet_fleet_settings").strip()
        module.fail_json(msg=f"hafleet {' '.join(told['words'])}: {why}", rc=code, said=said)
    module.exit_json(changed=told["idle"] is not None and said.strip() != told["idle"], said=said.strip())


if __name__ == "__main__":
    main()
