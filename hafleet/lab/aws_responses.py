"""Page limits as AWS has them, and the request parameters and answers that stock moto drops.

Sources: botocore's models of autoscaling 2011-01-01 and ec2 2016-11-15 (MaxRecords 1..100, default 50; MaxResults 5..1000).
"""

from typing import Any

from moto.autoscaling import urls as asg_urls
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2 import urls as ec2_urls
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response

from hafleet.lab.aws_lifecycle import LifecycleResponse

GROUPS_DEFAULT, GROUPS_MOST = 50, 100
INSTANCES_MOST = 50
RESERVATIONS_MOST = 1000


class LabAutoScalingResponse(LifecycleResponse):
    """The Auto Scaling operations whose limits moto does not know."""

    def _limited(self, default: int, most: int) -> int:
        asked: int = self._get_int_param("MaxRecords", default)
        if not 1 <= asked <= most:
            raise ValidationError(
                f"1 validation error detected: Value '{asked}' at 'maxRecords' failed to satisfy constraint: "
                f"Member must have value less than or equal to {most}"
            )
        return asked

    def _start(self, names: list[str]) -> int:
        token = self._get_param("NextToken")
        if not token:
            return 0
        if token not in names:
            raise AutoscalingClientError("InvalidNextToken", "The NextToken value is not valid.")
        return names.index(token) + 1

    def describe_auto_scaling_groups(self) -> ActionResult:
        """50 groups a page unless asked otherwise, at most 100."""
        groups = self.autoscaling_backend.describe_auto_scaling_groups(
            self._get_param("AutoScalingGroupNames", []), filters=self._get_param("Filters", [])
        )
        size, start = self._limited(GROUPS_DEFAULT, GROUPS_MOST), self._start([group.name for group in groups])
        page = groups[start : start + size]
        token = page[-1].name if len(groups) > start + size else None
        return ActionResult({"AutoScalingGroups": page, "NextToken": token})

    def describe_auto_scaling_instances(self) -> ActionResult:
        """At most 50 ids in a call and 50 instances a page."""
        ids = self._get_param("InstanceIds", [])
        if len(ids) > INSTANCES_MOST:
            raise ValidationError("The number of instance ids that may be passed in is limited to 50")
        states = [state for state in self.every_state() if not ids or state.instance_id in ids]
        size = self._limited(INSTANCES_MOST, INSTANCES_MOST)
        start = self._start([state.instance_id for state in states])
        page = states[start : start + size]
        token = page[-1].instance_id if len(states) > start + size else None
        return ActionResult({"AutoScalingInstances": page, "NextToken": token})

    def set_instance_health(self) -> ActionResult:
        """Healthy or Unhealthy, else a ValidationError instead of moto's crash."""
        status = self._get_param("HealthStatus")
        if status not in {"Healthy", "Unhealthy"}:
            raise ValidationError("Valid instance health states are: [Healthy, Unhealthy]")
        respect = self._get_bool_param("ShouldRespectGracePeriod", True)
        self._lab.set_instance_health(self._get_param("InstanceId"), status, respect)
        return EmptyResult()

    def delete_auto_scaling_group(self) -> ActionResult:
        """ForceDelete decides what happens to a group that still has instances."""
        self._lab.delete_group(self._get_param("AutoScalingGroupName"), self._get_bool_param("ForceDelete", False))
        return EmptyResult()


class LabEC2Response(EC2Response):
    """EC2 with the page limits of DescribeInstances, and answers as AWS gives them."""

    def describe_instances(self) -> ActionResult:
        """5 to 1,000 reservations a page, 1,000 when the caller says nothing; at most 1,000 ids."""
        ids = self._get_param("InstanceIds", [])
        if ids:
            self.params["InstanceIds"] = list(dict.fromkeys(ids))  # moto fails on an id that comes twice
        if len(ids) > RESERVATIONS_MOST:
            raise EC2ClientError("InvalidParameterValue", "A request may hold at most 1000 instance ids")
        if self._get_param("MaxResults") is None:
            self.params["MaxResults"] = RESERVATIONS_MOST  # moto would page by 100
        asked = self._get_int_param("MaxResults")
        if not 5 <= asked <= RESERVATIONS_MOST:
            raise EC2ClientError(
                "InvalidParameterValue", f"Value ( {asked} ) for parameter maxResults is invalid. Expecting 5 to 1000."
            )
        return super().describe_instances()

    def create_launch_template(self) -> ActionResult:
        """Create; the template's own tags are none of what its instances get."""
        answer = super().create_launch_template()
        template = self.ec2_backend.get_launch_template_by_name(self._get_param("LaunchTemplateName"))
        data = template.versions[0].data
        specs = [spec for spec in data.pop("TagSpecifications", []) if spec["ResourceType"] != "launch-template"]
        if specs:
            data["TagSpecifications"] = specs
        return answer

    def create_launch_template_version(self) -> ActionResult:
        """Create; what it does not say is as in SourceVersion, where that is told."""
        source = self._get_param("SourceVersion")
        if source:
            told = self._get_param("LaunchTemplateData", {})
            self.params["LaunchTemplateData"] = {**self._template().get_version(source).data, **told}
        return super().create_launch_template_version()

    def describe_launch_template_versions(self) -> ActionResult:
        """All but those that were deleted."""
        answer = super().describe_launch_template_versions()
        found: Any = answer.result
        kept = [
            v for v in found["LaunchTemplateVersions"] if v["VersionNumber"] not in self._deleted(v["LaunchTemplateId"])
        ]
        return ActionResult({**found, "LaunchTemplateVersions": kept})

    def delete_launch_template_versions(self) -> ActionResult:
        """Delete versions, never the default one. Their numbers are not given again."""
        template = self._template()
        deleted, done, failed = self._deleted(template.id), [], []
        for number in map(int, self._get_param("Versions", [])):
            told = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": number}
            if number in deleted or not 1 <= number <= len(template.versions):
                failed.append({**told, "ResponseError": {"Code": "launchTemplateVersionDoesNotExist"}})
            elif number == template.default_version_number:
                failed.append({**told, "ResponseError": {"Code": "unexpectedError"}})
            else:
                deleted.add(number)
                done.append(told)
        fates = {
            "SuccessfullyDeletedLaunchTemplateVersions": done,
            "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
        }
        return ActionResult(fates)

    def _template(self) -> Any:
        """The template that the call names, by its name or by its id."""
        name, id_ = self._get_param("LaunchTemplateName"), self._get_param("LaunchTemplateId")
        backend = self.ec2_backend
        return backend.get_launch_template_by_name(name) if name else backend.get_launch_template(id_)

    def _deleted(self, template_id: str) -> set[int]:
        """The numbers of a template's deleted versions; moto finds a version by its place, so they stay in its list."""
        template = self.ec2_backend.get_launch_template(template_id)
        numbers: set[int] = vars(template).setdefault("lab_deleted", set())
        return numbers

    def update_security_group_rule_descriptions_ingress(self) -> ActionResult:
        """Say that it was done, as AWS does."""
        super().update_security_group_rule_descriptions_ingress()
        return ActionResult({"Return": True})

    def update_security_group_rule_descriptions_egress(self) -> ActionResult:
        """Say that it was done, as AWS does."""
        super().update_security_group_rule_descriptions_egress()
        return ActionResult({"Return": True})


def install() -> None:
    """Route the operations here."""
    asg_urls.url_paths["{0}/$"] = LabAutoScalingResponse.dispatch
    ec2_urls.url_paths["{0}/"] = LabEC2Response.dispatch
