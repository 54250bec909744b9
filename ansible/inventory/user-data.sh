#!/bin/sh
# User data of a launch template: the node fetches its settings when it boots. Change the next three lines.
URL=https://git.example.com/edge.git
BRANCH=main
VARS=edge.yml

# Where build-ami.yml puts Ansible with hafleet_pull=true; an Ansible of the system comes after it.
export PATH="/opt/ansible/bin:$PATH"
export ANSIBLE_ROLES_PATH=ansible/roles # of the repository: ansible-pull begins the playbook at its root
export ANSIBLE_PIPELINING=true

# No credentials are needed from IMDS here. What asks for them later uses tokens: the launch template allows nothing else.
for try in 1 2 3; do
    if ansible-pull --url "$URL" --checkout "$BRANCH" -i localhost, -e "hafleet_vars=$VARS" ansible/playbooks/pull.yml; then
        exit 0
    fi
    echo "hafleet: ansible-pull failed, try $try of 3" >&2
    [ "$try" = 3 ] || sleep $((try * 10))
done
exit 1
