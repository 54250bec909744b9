"""Tags of the nodes' own instances."""

from typing import Any

from hafleet.adapters import aws
from hafleet.errors import SourceUnavailable

_IDS = 200  # values of one filter at most (DescribeTags)
_VALUE = 256  # characters of a tag's value at most (EC2)
_DESCRIBE = "ec2:DescribeTags"


class Ec2NodeTags:
    """Implements ``ports.NodeTags``. For one thread.

    Args:
        account: whose clients are used.
    """

    def __init__(self, account: aws.Account) -> None:
        self._account = account

    def tags(self, instances: frozenset[str], key: str) -> dict[str, str]:
        """See ``ports.NodeTags.tags``. DescribeTags tells nothing but tags, and takes no offence at an id that is gone."""
        found: dict[str, str] = {}
        ids = sorted(instances)
        for start in range(0, len(ids), _IDS):
            found |= self._page(ids[start : start + _IDS], key)
        return found

    def tag(self, instance: str, key: str, value: str) -> None:
        """See ``ports.NodeTags.tag``. A longer value is cut to what EC2 takes."""
        _, client, region = self._account.scaling()
        with aws.translated("ec2:CreateTags", region):
            client.create_tags(Resources=[instance], Tags=[{"Key": key, "Value": value[:_VALUE]}])

    def _page(self, ids: list[str], key: str) -> dict[str, str]:
        """The tags of some instances, over all pages."""
        _, client, region = self._account.scaling()
        filters: Any = [
            {"Name": "resource-type", "Values": ["instance"]},
            {"Name": "resource-id", "Values": ids},
            {"Name": "key", "Values": [key]},
        ]
        found: dict[str, str] = {}
        tokens: set[str] = set()
        paging: dict[str, str] = {}
        while True:
            with aws.translated(_DESCRIBE, region):
                answer = client.describe_tags(Filters=filters, **paging)  # type: ignore[arg-type]  # only NextToken
            for item in answer.get("Tags") or ():
                if item.get("Key") == key and item.get("ResourceId") in ids:
                    found[str(item["ResourceId"])] = str(item.get("Value") or "")
            token = answer.get("NextToken")
            if not token:
                return found
            if token in tokens:
                what = "the answer is not whole: the same page token came twice"
                raise SourceUnavailable(what, where=f"{_DESCRIBE} in {region}", fix="nothing now: it is tried again")
            tokens.add(token)
            paging = {"NextToken": token}
