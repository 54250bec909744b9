#!/bin/sh
# User data of a launch template: the node fetches its settings when it boots. Change the first three lines.
URL=https://git.example.com/edge.git
BRANCH=main
VARS=edge.yml

# No credentials are needed from IMDS here. What asks for them later uses tokens: the launch template allows nothing else.
for try in 1 2 3; do
    if ansible-pull --url "$URL" --checkout "$BRANCH" -i localhost, -e "hafleet_vars=$VARS" ansible/playbooks/pull.yml; then
        exit 0
    fi
    echo "hafleet: ansible-pull failed, try $try of 3" >&2
    sleep $((try * 10))
done
exit 1
