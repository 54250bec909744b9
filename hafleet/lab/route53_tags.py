"""Tags of hosted zones and health checks, as the local Route 53 keeps them."""

from collections.abc import Callable

from hafleet.lab.route53_words import ApiError, Shape

MOST_TAGS = 50  # of one resource


class Tags:
    """Tags by (kind, id). ``demand`` raises ApiError when there is no such resource."""

    def __init__(self, demand: Callable[[str, str], None]) -> None:
        self._demand = demand
        self._tags: dict[tuple[str, str], dict[str, str]] = {}

    def change(self, params: Shape) -> Shape:
        """ChangeTagsForResource: keys to remove go first."""
        kind, identifier = params["ResourceType"], params["ResourceId"]
        self._demand(kind, identifier)
        tags = dict(self._tags.get((kind, identifier), {}))
        for key in params.get("RemoveTagKeys") or ():
            tags.pop(key, None)
        tags.update({tag["Key"]: tag.get("Value") or "" for tag in params.get("AddTags") or ()})
        if len(tags) > MOST_TAGS:
            raise ApiError("InvalidInput", f"A resource may have {MOST_TAGS} tags")
        self._tags[kind, identifier] = tags
        return {}

    def list(self, params: Shape) -> Shape:
        """ListTagsForResource."""
        return {"ResourceTagSet": self._set_of(params["ResourceType"], params["ResourceId"])}

    def list_many(self, params: Shape) -> Shape:
        """ListTagsForResources: ten ids at most; one that does not exist fails the whole call."""
        return {"ResourceTagSets": [self._set_of(params["ResourceType"], item) for item in params["ResourceIds"]]}

    def forget(self, kind: str, identifier: str) -> None:
        """The resource is gone."""
        self._tags.pop((kind, identifier), None)

    def _set_of(self, kind: str, identifier: str) -> Shape:
        self._demand(kind, identifier)
        tags = [{"Key": key, "Value": value} for key, value in self._tags.get((kind, identifier), {}).items()]
        return {"ResourceType": kind, "ResourceId": identifier, "Tags": tags}
