"""The local AWS where playbooks meet it: launch templates, security groups and AWS's own lists of networks."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from hafleet.lab.cloud import REGION, Cloud
from hafleet.lab.fleet import Lab

TAGS = [{"Key": "hafleet:fleet", "Value": "edge"}]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Lab(agents=False) as lab:
        yield lab.cloud


def versions(cloud: Cloud, name: str) -> list[int]:
    found = cloud.ec2.describe_launch_template_versions(LaunchTemplateName=name)["LaunchTemplateVersions"]
    return sorted(version["VersionNumber"] for version in found)


def test_a_templates_own_tags_are_not_what_its_instances_get(cloud: Cloud) -> None:
    volumes = {"ResourceType": "volume", "Tags": TAGS}
    for name, data in (("plain", {}), ("tagged", {"TagSpecifications": [volumes]})):
        cloud.ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": "ami-12345678", **data},  # type: ignore[typeddict-item]
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": TAGS}],  # type: ignore[list-item, misc]
        )
        (made,) = cloud.ec2.describe_launch_template_versions(LaunchTemplateName=name)["LaunchTemplateVersions"]
        assert made["LaunchTemplateData"].get("TagSpecifications", []) == data.get("TagSpecifications", [])
    (told,) = cloud.ec2.describe_launch_templates(LaunchTemplateNames=["tagged"])["LaunchTemplates"]
    assert told["Tags"] == TAGS


def test_versions_go_but_for_the_default_one(cloud: Cloud) -> None:
    ec2, data = cloud.ec2, {"ImageId": "ami-12345678"}
    id_ = ec2.create_launch_template(LaunchTemplateName="many", LaunchTemplateData=data)["LaunchTemplate"]  # type: ignore[arg-type]
    for _ in range(2):
        ec2.create_launch_template_version(LaunchTemplateName="many", LaunchTemplateData=data)  # type: ignore[arg-type]
    gone = ec2.delete_launch_template_versions(LaunchTemplateName="many", Versions=["1", "2", "9"])
    assert [each["VersionNumber"] for each in gone["SuccessfullyDeletedLaunchTemplateVersions"]] == [2]
    assert [each["VersionNumber"] for each in gone["UnsuccessfullyDeletedLaunchTemplateVersions"]] == [1, 9]
    assert versions(cloud, "many") == [1, 3]
    again = ec2.delete_launch_template_versions(LaunchTemplateId=id_["LaunchTemplateId"], Versions=["2"])
    assert again["SuccessfullyDeletedLaunchTemplateVersions"] == []
    ec2.delete_launch_template(LaunchTemplateName="many")
    with pytest.raises(ClientError, match="NotFound"):
        ec2.describe_launch_templates(LaunchTemplateNames=["many"])


def test_descriptions_of_rules_change_with_an_answer(cloud: Cloud) -> None:
    vpc = cloud.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    wall = cloud.ec2.create_security_group(GroupName="wall", Description="wall", VpcId=vpc)["GroupId"]
    ranges = [{"CidrIp": "10.0.0.0/8"}]
    inward = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": ranges}
    cloud.ec2.authorize_security_group_ingress(GroupId=wall, IpPermissions=[inward])  # type: ignore[list-item]
    inward["IpRanges"] = [{**ranges[0], "Description": "clients"}]
    told = cloud.ec2.update_security_group_rule_descriptions_ingress(GroupId=wall, IpPermissions=[inward])  # type: ignore[list-item]
    assert told["Return"] is True
    outward = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}
    answer = cloud.ec2.update_security_group_rule_descriptions_egress(GroupId=wall, IpPermissions=[outward])  # type: ignore[list-item]
    assert answer["Return"] is True


def test_the_checkers_of_route_53_are_in_lists_of_aws(cloud: Cloud) -> None:
    names = [f"com.amazonaws.{REGION}.{inset}route53-healthchecks" for inset in ("", "ipv6.")]
    asked = [{"Name": "prefix-list-name", "Values": names}]
    found = cloud.ec2.describe_managed_prefix_lists(Filters=asked)["PrefixLists"]  # type: ignore[arg-type]
    assert {(each["PrefixListName"], each["AddressFamily"]) for each in found} == set(
        zip(names, ("IPv4", "IPv6"), strict=True)
    )


def test_a_version_takes_from_its_source_what_it_does_not_say(cloud: Cloud) -> None:
    ec2 = cloud.ec2
    ec2.create_launch_template(
        LaunchTemplateName="next", LaunchTemplateData={"ImageId": "ami-12345678", "KeyName": "ops"}
    )
    for source in ("1", ""):
        ec2.create_launch_template_version(
            LaunchTemplateName="next", SourceVersion=source, LaunchTemplateData={"ImageId": "ami-1"}
        )
    found = ec2.describe_launch_template_versions(LaunchTemplateName="next")["LaunchTemplateVersions"]
    data = {each["VersionNumber"]: each["LaunchTemplateData"] for each in found}
    assert data[2] == {"ImageId": "ami-1", "KeyName": "ops"} and data[3] == {"ImageId": "ami-1"}
